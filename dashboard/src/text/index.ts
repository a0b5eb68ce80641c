// The language that is shown. One today; the pages know only this name.

export { en as text } from './en.ts';
