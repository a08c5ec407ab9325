// When the transcript is drawn, and how it keeps to its end.

const NEAR = 80; // pixels from the end within which the transcript follows the answer
const transcript = document.getElementById("transcript");
const latest = document.getElementById("latest");

/** Draws at most once a frame, and less often where drawing takes long. */
export class Drawing {
  constructor(draw) {
    this._draw = draw;
    this._timer = 0;
    this._took = 0;
  }

  soon() {
    if (this._timer) return;
    this._timer = setTimeout(() => {
      this._timer = 0;
      const began = performance.now();
      follow(this._draw);
      this._took = performance.now() - began;
    }, Math.max(16, this._took * 4));
  }

  end() {
    clearTimeout(this._timer);
  }
}

/** Change the transcript, and stay at its end if that was in view. */
export function follow(change) {
  const was = isNearEnd();
  change();
  if (was) toEnd();
  showLatest();
}

const isNearEnd = () => transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < NEAR;

export function toEnd() {
  transcript.scrollTop = transcript.scrollHeight;
  showLatest();
}

export function showLatest() {
  latest.hidden = isNearEnd();
}
