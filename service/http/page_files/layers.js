// What the two sides of the view show: pictures, gradients and maps, as canvases with their names.

import { divergingTable, greyTable, paintGreys, paintValues } from "./colours.js";
import { contradiction, difference, scaleEnd } from "./maps.js";

const AS_SENT = { gain: 1, offset: 0 };
const DIVERGING = divergingTable();
const GREYS = greyTable();
const WEAKEST_SHOWN = 0.25; // share of the residual's limit below which nothing is drawn over the SR

// Why a layer cannot be shown, or "".
export function missing(compared, layer, isOther) {
  const [lr, sr] = compared.pictures;
  const noLr = lr ? "" : `LR not shown: ${compared.unshown}`;
  if (layer === "difference" && !isOther) return noLr;
  if (layer === "consistency") return noLr;
  if (layer === "residual") return noLr || (sr.residual ? "" : "this model's bundle has no limits to compare with");
  return "";
}

// choice: {layer, isOther, isPixels, isMatched, levels: {black, white}}.
// Returns {left, right, legend, words}: the sides as {bitmap, width, height, name, map}, left null
// where there is none; map: {values, width, unit} of the place below the pointer.
export function layersOf(compared, choice) {
  const [lr, sr] = compared.pictures;
  const { layer, isOther, isMatched, levels } = choice;
  const reference = isOther ? compared.other : lr;
  const matching = reference && (isOther ? reference.toRight : sr.greys);
  const greys = reference && isMatched ? matching : AS_SENT;
  const referenceName = isOther ? `SR of ${compared.otherName}` : choice.isPixels ? "LR pixels" : "LR bicubic";
  const rightName = isOther ? `SR of ${compared.rightName}` : "SR";

  const plain = (picture, tone, name) => ({ ...sizeOf(sr), bitmap: paintGreys(picture, greyTable(tone, levels)), name });
  const left = () => reference && plain(
    !isOther && choice.isPixels ? compared.sent : reference, greys, `${referenceName}${isMatched ? ", greys matched" : ""}`,
  );

  if (layer === "gradient") {
    const side = (picture, name) => picture && {
      ...sizeOf(sr), name, map: { values: picture.gradient, width: sr.width, unit: "gradient" },
      bitmap: paintValues(picture.gradient, sr.width, sr.height, { low: 0, high: compared.white, table: GREYS }),
    };
    return {
      left: side(reference, isOther ? `${referenceName}, gradient` : "LR bicubic, gradient"),
      right: side(sr, `${rightName} gradient, white: ${compared.white.toFixed(0)} grey levels / px`),
      legend: { low: 0, high: compared.white, unit: "grey levels / px", table: GREYS },
      words: "How fast grey levels change (Sobel), on one scale for both sides.",
    };
  }
  if (layer === "difference") {
    const values = difference(sr, reference, greys);
    const end = scaleEnd(values);
    const name = `${rightName} − ${isOther ? referenceName : "LR bicubic"}`;
    return {
      left: left(), legend: around(end, "grey levels"),
      right: mapSide(values, sr.width, sr, end, `${name}${isMatched ? ", greys matched" : ", greys as sent"}`, "difference"),
      words: `${name}. Orange: ${rightName} is brighter; blue: darker. ${isMatched ? "" : "With greys as sent, a different tone is a difference, too."}`,
    };
  }
  if (layer === "consistency") {
    const valuesOf = (answer) => contradiction(compared.sent, answer, isMatched ? answer.greys : AS_SENT);
    const maps = [sr, isOther && compared.other].filter(Boolean).map(valuesOf);
    const end = scaleEnd(...maps);
    const side = (values, name) => mapSide(values, compared.sent.width, sr, end, `${name}, averaged − LR`, "against LR");
    return {
      left: isOther ? side(maps[1], referenceName) : left(), right: side(maps[0], rightName),
      legend: around(end, "grey levels"),
      words: "The answer averaged to LR pixels, minus the LR. Grain is the LR’s noise; lines and spots contradict what was " +
        "measured. Orange: the answer is brighter.",
    };
  }
  if (layer === "residual") {
    const side = (answer, name) => ({ ...overlaid(answer, compared.sent, levels), name });
    return {
      left: isOther && compared.other.residual ? side(compared.other, `${referenceName}, residual`) : left(),
      right: side(sr, `${rightName}, residual`),
      legend: around(1, "× the limit"),
      places: sr.residual.places,
      words: "What the SR does not explain of the LR, in shares of the model’s limit, computed by the page as by the model’s graph" +
        `${compared.isTiled ? ", but over the whole picture instead of each tile" : ""}. Orange: the LR is brighter.`,
    };
  }
  const { gain, offset } = greys;
  const sign = offset < 0 ? "−" : "+";
  return {
    left: left(), right: plain(sr, AS_SENT, rightName), legend: null,
    words: reference && isMatched
      ? `${isOther ? "Left" : "LR"} greys × ${gain.toFixed(2)} ${sign} ${Math.abs(offset).toFixed(0)}, which matches them to the ${rightName}.` : "",
  };
}

const sizeOf = ({ width, height }) => ({ width, height });
const around = (end, unit) => ({ low: -end, high: end, unit, table: DIVERGING });

function mapSide(values, mapWidth, sr, end, name, unit) {
  const height = values.length / mapWidth;
  return {
    ...sizeOf(sr), name, map: { values, width: mapWidth, unit },
    bitmap: paintValues(values, mapWidth, height, { low: -end, high: end, table: DIVERGING }),
  };
}

// The answer, with what it does not explain laid over it: the stronger, the more opaque.
function overlaid(answer, { width, height }, levels) {
  const { scores } = answer.residual;
  const bitmap = paintGreys(answer, greyTable(AS_SENT, levels));
  const veiled = DIVERGING.map((colour, i) => {
    const size = Math.abs((2 * i) / (DIVERGING.length - 1) - 1);
    const share = Math.min(1, Math.max(0, (size - WEAKEST_SHOWN) / (1 - WEAKEST_SHOWN)));
    return ((colour & 0xffffff) | (Math.round(255 * share) << 24)) >>> 0;
  });
  const veil = paintValues(scores, width, height, { low: -1, high: 1, table: veiled });
  const context = bitmap.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(veil, 0, 0, answer.width, answer.height);
  return { ...sizeOf(answer), bitmap, map: { values: scores, width, unit: "residual" } };
}
