// Numbers for people.

const MISSING = "–";

function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Wraps a formatter so that what was not measured shows as a dash. */
function orMissing(format) {
  return (value, ...options) => (known(value) ? format(value, ...options) : MISSING);
}

const integer = orMissing((value) => Math.round(value).toLocaleString("en-US"));

/** Three significant digits: 0.00263, 12.3, 4,336. */
const decimal = orMissing((value, digits = 3) => {
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-4) {
    return value.toExponential(digits - 1).replace("e-", "e−").replace(/^-/, "−");
  }
  if (size >= 1000) {
    return integer(value);
  }
  return value.toLocaleString("en-US", { maximumSignificantDigits: digits });
});

/** Three decimals, for columns of scores. */
const fixed = orMissing((value) => value.toFixed(3));

const percent = orMissing((share, digits = 1) => `${(100 * share).toFixed(digits)} %`);

/** A share with as many digits as it takes: 41 %, 2.1 %, 0.05 %. */
const share = orMissing((value) => `${decimal(100 * value, value < 0.1 ? 2 : 3)} %`);

/**
 * The standard error of an accuracy over independent rows, by Agresti and Coull's estimate of a binomial share at z = 1:
 * unlike sqrt(p (1 - p) / n) it is not 0 where all rows are right.
 */
function standardError(accuracy, rows) {
  const middle = (accuracy * rows + 0.5) / (rows + 1);
  return Math.sqrt(middle * (1 - middle) / (rows + 1));
}

/** The standard error of the mean over tasks, which count equally; undefined where one was not measured. */
function meanError(tasks, key) {
  const sum = tasks.reduce((total, task) => total + standardError(task.accuracy[key], task.rows) ** 2, 0);
  return tasks.length > 0 && known(sum) ? Math.sqrt(sum) / tasks.length : undefined;
}

/** "± 8.1". */
const plusMinus = orMissing((error) => `± ${(100 * error).toFixed(1)}`);

/** A difference of two accuracies in percentage points. */
const points = orMissing((difference) => {
  const rounded = Math.round(1000 * difference) / 10;
  const sign = rounded > 0 ? "+" : rounded < 0 ? "−" : "±";
  const size = Math.abs(rounded).toFixed(1);
  return `${sign}${size} ${size === "1.0" ? "point" : "points"}`;
});

function scaled(value, base, units) {
  let index = 0;
  while (Math.abs(value) >= base && index + 1 < units.length) {
    value /= base;
    index += 1;
  }
  return decimal(value) + units[index];
}

const bytes = orMissing((value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]));
const count = orMissing((value) => scaled(value, 1000, ["", "K", "M", "B", "T"]));

/** In the two largest units: 0.8 s, 42 s, 3 min 20 s, 5 h 7 min. */
const duration = orMissing((seconds) => {
  if (seconds < 10) {
    return `${decimal(seconds, 2)} s`;
  }
  const whole = Math.round(seconds);
  if (whole < 60) {
    return `${whole} s`;
  }
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) {
    return `${minutes} min ${whole % 60} s`;
  }
  const hours = Math.round(whole / 60);
  return `${Math.floor(hours / 60)} h ${hours % 60} min`;
});

/** "1 step", "300 steps". */
function plural(number, noun) {
  return `${integer(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "3.5": layer and head, as heads are called everywhere on the page. */
function headName(layer, head) {
  return `${layer}.${head}`;
}

const RULE_NAMES = { top_p: "top-p with gate, floor and cap", top_k: "top-k", paper: "paper's rule", oracle: "oracle" };

/** "64", or "64 to 256" where heads differ. */
function range(least, most, format) {
  return known(most) ? `${format(least)} to ${format(most)}` : format(least);
}

/** "p 0.9, floor 64, cap 256 to 1,024 by head". */
function settingsText(point) {
  const parts = [];
  if (known(point.p)) {
    parts.push(`p ${range(point.p, point.most_p, decimal)}`);
  }
  if (known(point.min_tokens) && (point.by_head || point.min_tokens !== point.max_tokens)) {
    parts.push(`floor ${range(point.min_tokens, point.most_min_tokens, integer)}`);
  }
  if (known(point.max_tokens)) {
    parts.push(`${point.rule === "top_p" ? "cap" : "k"} ${range(point.max_tokens, point.most_max_tokens, integer)}`);
  }
  if (point.by_head) {
    parts.push(`${parts.pop()} by head`);
  }
  if (known(point.tail_block)) {
    parts.push(`the rest by means of ${integer(point.tail_block)}`);
  }
  return parts.join(", ");
}
