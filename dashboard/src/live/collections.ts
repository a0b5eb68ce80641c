// The state of a topic: collections of keyed values. A delta carries changed keys only; null removes a key.

export type Collections = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
type Change = Record<string, Record<string, unknown> | null>;

/** The state after a delta. Untouched values keep their identity, so that a page renders only what changed. */
export function applied(held: Collections, delta: unknown): Collections {
  if (!isObject(delta)) return held;
  const next: Record<string, Readonly<Record<string, unknown>>> = { ...held };
  for (const [name, changes] of Object.entries(delta as Change)) {
    if (changes === null) {
      delete next[name];
      continue;
    }
    if (!isObject(changes)) continue;
    const collection: Record<string, unknown> = { ...next[name] };
    for (const [key, value] of Object.entries(changes)) {
      // A null that is a fact ("no period today") reads the same as a missing key.
      if (value === null) delete collection[key];
      else collection[key] = value;
    }
    next[name] = collection;
  }
  return next;
}

/** The state that a snapshot says, with the same meaning of null as in a delta. */
export function fromSnapshot(data: unknown): Collections {
  return applied({}, data);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
