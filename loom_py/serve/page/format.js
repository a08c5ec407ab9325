// Figures as people read them.

const whole = new Intl.NumberFormat("en");

export const number = (value) => whole.format(value);

export const tokens = (count) => `${number(count)} ${count === 1 ? "token" : "tokens"}`;

/** US dollars with as many digits as tell something. */
export function money(usd) {
  if (usd === 0) return "$0.00";
  if (usd >= 1) return `$${usd.toFixed(2)}`;
  const digits = Math.min(8, Math.max(2, 1 - Math.floor(Math.log10(usd))));
  return `$${usd.toFixed(digits)}`;
}

/** Seconds in words. */
export function seconds(value) {
  if (value < 1) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  const rest = Math.round(value);
  return `${Math.floor(rest / 60)} min ${rest % 60} s`;
}

/** JSON text set out on lines; other text as it is. */
export function pretty(text) {
  if (text.length > 200_000 || !/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
