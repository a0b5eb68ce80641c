// The live school as the office sees it: the topic joined with the names of its people.
//
// One school is held for as long as the office is signed in, whatever page is open: the list of who is inside must be
// there, with names, also when the network is lost before somebody opens it.

import { api } from '../api/client.ts';
import type { BuildingEntry, Counts, DeviceEntry, FeedEntry, Id, Person, School, SectionLine } from '../api/types.ts';
import { Times } from '../app/times.ts';
import { link, Topic } from '../app/live.svelte.ts';

/** Names are asked for again at most this often when somebody unknown appears. */
const NAMES_EVERY_MS = 15_000;

export interface Inside {
  readonly id: Id;
  readonly person: Person | undefined;
  readonly since: string;
}

let held: { id: Id; building: Building; end: () => void } | null = null;

/** The school's building; another school's is let go. */
export function buildingOf(id: Id): Building {
  if (held?.id === id) return held.building;
  leaveBuilding();
  let building!: Building;
  // It outlives the page that asked first.
  const end = $effect.root(() => {
    building = new Building(id);
  });
  held = { id, building, end };
  return building;
}

/** Forgets the names, at sign-out. */
export function leaveBuilding(): void {
  held?.building.close();
  held?.end();
  held = null;
}

class Building {
  school = $state.raw<School | null>(null);
  hasFailed = $state(false);
  readonly topic: Topic;
  #id: Id;
  #people = $state.raw<ReadonlyMap<Id, Person>>(new Map());
  #askedAt = 0;

  readonly sections = $derived.by(() => this.topic.collection<SectionLine>('sections'));
  readonly devices = $derived.by(() => this.topic.collection<DeviceEntry>('devices'));
  readonly counts = $derived.by(() => this.topic.collection<number>('counts') as Counts & { in_building?: number });
  readonly feed = $derived.by(() =>
    Object.entries(this.topic.collection<FeedEntry>('feed'))
      .map(([offset, entry]) => ({ offset: Number(offset), ...entry }))
      .sort((a, b) => b.offset - a.offset),
  );
  readonly inside = $derived.by(() => this.#inside());
  readonly times = $derived.by(() => new Times(this.school?.zone));

  constructor(id: Id) {
    this.#id = id;
    this.topic = new Topic(`school/${id}/attendance`, (changes) => this.#meet(changes?.['building'] ?? {}));
    void this.load();
    // Names that could not be had are asked for again when the network is back.
    $effect(() => {
      if (link.state.kind === 'live' && this.hasFailed) void this.load();
    });
  }

  async load(): Promise<void> {
    this.hasFailed = false;
    this.#askedAt = Date.now();
    try {
      const [school, people] = await Promise.all([api.school(this.#id), api.people(this.#id)]);
      this.school = school;
      this.#people = new Map(people.map((person) => [person.id, person]));
    } catch {
      // What was loaded once stays: the list must work when the network is gone.
      this.hasFailed = this.#people.size === 0;
    }
  }

  name(id: Id): string | undefined {
    const person = this.#people.get(id);
    return person && `${person.given} ${person.family}`;
  }

  close(): void {
    this.topic.close();
  }

  #meet(building: Readonly<Record<Id, unknown>>): void {
    const isStranger = Object.entries(building).some(([id, entry]) => entry !== null && !this.#people.has(id));
    if (isStranger && Date.now() - this.#askedAt > NAMES_EVERY_MS) void this.load();
  }

  #inside(): Inside[] {
    const collator = new Intl.Collator();
    const key = (inside: Inside) => (inside.person ? `${inside.person.family} ${inside.person.given}` : '\uffff');
    return Object.entries(this.topic.collection<BuildingEntry>('building'))
      .map(([id, { since }]) => ({ id, since, person: this.#people.get(id) }))
      .sort((a, b) => collator.compare(key(a), key(b)));
  }
}

/** A device that needs a person: offline, or with scans that are not here yet. */
export function isTroubled(device: DeviceEntry): boolean {
  if (device.disabled) return false;
  return Boolean(device.behind_since) || device.connected === false || (device.queued ?? 0) > 0;
}
