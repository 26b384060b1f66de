// Decodes and measures pictures in a worker, so that the page stays responsive.

import { bicubic, fitGreys, gradient, histogram, mean, percentile } from "./imaging.js";
import { residualScores, strongest } from "./maps.js";

// Grey levels as they are in the file: no colour management, no alpha.
const DECODE = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

self.addEventListener("message", async ({ data: { id, ...pictures } }) => {
  try {
    const answer = await compare(pictures);
    const all = [...answer.pictures, answer.other, answer.sent].filter(Boolean);
    const moved = all.flatMap((one) => [one.grey.buffer, one.gradient?.buffer, one.residual?.scores.buffer]);
    self.postMessage({ id, ...answer }, moved.filter(Boolean)); // given away, not copied
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});

// lr, sr, other: Blobs: the tile, its answer, and the answer of another model; lr and other may be
// null. trusts: records of the two models, or null. Pictures are returned at the size of the SR.
async function compare({ lr, sr, other, trusts = [] }) {
  const right = await decode(sr);
  const sent = lr && (await decode(lr));
  const second = other && (await decode(other));
  // A rotated or rescaled LR would not be the model's input.
  const factor = sent && right.width / sent.width;
  const isAligned = Boolean(sent) && factor === right.height / sent.height && Number.isInteger(factor);
  const left = isAligned ? bicubic(sent, right.width, right.height) : null;
  const isOtherSized = Boolean(second) && (second.width !== right.width || second.height !== right.height);
  const shown = [left, right, isOtherSized ? null : second];
  for (const picture of shown.filter(Boolean)) {
    picture.gradient = gradient(picture);
    picture.meanGradient = mean(picture.gradient);
    picture.histogram = histogram(picture);
  }
  shown.slice(1).forEach((answer, i) => {
    if (!answer) return;
    answer.greys = isAligned ? fitGreys(sent, answer) : null; // of the tile, to this answer
    answer.residual = isAligned && trusts[i] ? residualOf(sent, answer, trusts[i]) : null;
  });
  const [, , usable] = shown;
  if (usable) usable.toRight = fitGreys(usable, right);
  return {
    pictures: [left, right],
    other: usable,
    // One scale for all, or they could not be compared; a few hot pixels must not darken the rest.
    white: Math.max(1, percentile(shown.filter(Boolean).map((picture) => picture.gradient), 0.999)),
    sent: isAligned ? sent : null,
    isMisaligned: Boolean(sent) && !isAligned,
    isOtherSized,
    histograms: [isAligned ? histogram(sent) : null, right.histogram],
  };
}

// Scores over the bundle's limit, and the strongest places.
function residualOf(sent, answer, { noise, residual_limit: limit }) {
  const scores = residualScores(sent, answer, noise).map((score) => score / limit);
  return { scores, places: strongest(scores, sent.width) };
}

async function decode(blob) {
  const bitmap = await createImageBitmap(blob, DECODE);
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
  return { width, height, grey };
}
