// Names that are too long for their place in a chart, cut so that they stay different from each other: their beginning where that
// tells them apart, else the words where they part, after as much of the beginning as has room. Pure.

const GAP = '…';
/** A beginning of fewer letters than this says nothing; */
const BEGINNING_LETTERS_MIN = 4;
/** and a word that is cut needs more of them. */
const CUT_WORD_LETTERS_MIN = 8;
/** Names that are still alike after so many cuts are numbered. */
const ROUNDS_MAX = 8;

/** A label for each of the names, which differ from each other: the name itself if it has at most so many letters, else as many of it. */
export function labels(names: readonly string[], lettersMax: number): string[] {
  const made = names.map((name) => cut(name, [], lettersMax));
  /** Where the words begin that tell a name from those that read like it. */
  const partings = names.map((): number[] => []);
  for (let round = 0, isNew = true; isNew && round < ROUNDS_MAX; round += 1) {
    isNew = false;
    for (const group of alike(made, names)) {
      const shared = sharedLetters(group.map((place) => names[place] ?? ''));
      for (const place of group) {
        const [name = '', known = []] = [names[place], partings[place]];
        const parting = wordAt(name, shared);
        if (known.includes(parting)) continue;
        known.push(parting);
        made[place] = cut(name, known.sort((a, b) => a - b), lettersMax);
        isNew = true;
      }
    }
  }
  for (const place of alike(made, names).flat()) {
    const number = `${GAP} (${place + 1})`;
    made[place] = `${(made[place] ?? '').slice(0, lettersMax - number.length)}${number}`;
  }
  return made;
}

/** The beginning of the name, the word at each of the partings, and everything from the last of them on, as far as there is room. */
function cut(name: string, partings: readonly number[], lettersMax: number): string {
  if (name.length <= lettersMax) return name;
  const [first, last] = [partings[0], partings.at(-1)];
  if (first === undefined || last === undefined) return ended(name, lettersMax);
  const words = partings.slice(0, -1).map((from, place) => {
    const end = name.indexOf(' ', from);
    return end + 1 === partings[place + 1] ? name.slice(from, end + 1) : `${name.slice(from, end)}${GAP} `;
  });
  const kept = words.join('') + name.slice(last);
  if (first === 0) return ended(kept, lettersMax);
  const room = name.slice(0, Math.min(first, Math.max(0, lettersMax - kept.length - 2)));
  const whole = (room.length === first ? room : room.slice(0, Math.max(0, room.lastIndexOf(' ')))).trimEnd();
  if (whole.length >= BEGINNING_LETTERS_MIN) return `${whole}${GAP} ${kept}`;
  return room.length >= CUT_WORD_LETTERS_MIN ? `${room.trimEnd()}${GAP} ${kept}` : GAP + ended(kept, lettersMax - 1);
}

function ended(text: string, lettersMax: number): string {
  return text.length <= lettersMax ? text : `${text.slice(0, lettersMax - 1).trimEnd()}${GAP}`;
}

/** Where the word begins in which names part that share so many letters. */
function wordAt(name: string, shared: number): number {
  return shared === 0 ? 0 : name.lastIndexOf(' ', shared - 1) + 1;
}

function sharedLetters(names: readonly string[]): number {
  const [first = '', ...others] = names;
  let letters = first.length;
  for (const other of others) {
    let same = 0;
    while (same < letters && other[same] === first[same]) same += 1;
    letters = same;
  }
  return letters;
}

/** Places of labels that read the same. A name that stands whole stays, and what reads like it is cut otherwise. */
function alike(made: readonly string[], names: readonly string[]): number[][] {
  const places = new Map<string, number[]>();
  for (const [place, label] of made.entries()) {
    const known = places.get(label);
    if (known === undefined) places.set(label, [place]);
    else known.push(place);
  }
  return [...places.values()].filter((group) => group.length > 1).map((group) => group.filter((place) => made[place] !== names[place]));
}
