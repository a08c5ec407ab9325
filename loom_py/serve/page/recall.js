// ↑ and ↓ in the message box: what was asked before.

export class Recall {
  constructor() {
    this.reset();
  }

  /** Something is written: it is not looked back any more. */
  reset() {
    this._back = -1; // how far; -1 for what is being written
    this._draft = "";
  }

  /** What stands in the box after going back by `step`, or `null` where there is nothing. */
  go(step, written, asked) {
    if (this._back < 0 && (step < 0 || written !== "")) return null;
    const to = this._back + step;
    if (to >= asked.length) return null;
    if (this._back < 0) this._draft = written;
    this._back = to;
    return to < 0 ? this._draft : asked.at(-1 - to);
  }
}
