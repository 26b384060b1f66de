// Decodes and measures pictures in a worker, so that the page stays responsive.

import { bicubic, fitGreys, gradient, histogram, mean, percentile, regrey, toImageData } from "./imaging.js";

// Grey levels as they are in the file: no colour management, no alpha.
const DECODE = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

self.addEventListener("message", async ({ data: { id, lr, sr } }) => {
  try {
    const answer = await compare(lr, sr);
    const shown = [...answer.pictures, answer.sent].filter(Boolean);
    const moved = shown.flatMap((one) => [
      one.grey.buffer, one.gradient?.buffer, one.bitmap, one.gradientBitmap, one.matchedBitmap,
    ]);
    self.postMessage({ id, ...answer }, moved.filter(Boolean)); // given away, not copied
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});

// lr, sr: Blob; lr may be null. Both pictures are returned at the size of the SR.
async function compare(lr, sr) {
  const right = await decode(sr);
  const sent = lr && (await decode(lr));
  // A rotated or rescaled LR would not be the model's input.
  const factor = sent && right.width / sent.width;
  const isAligned = Boolean(sent) && factor === right.height / sent.height && Number.isInteger(factor);
  const left = isAligned ? bicubic(sent, right.width, right.height) : null;
  const gradients = [left, right].map((picture) => picture && gradient(picture));
  // One scale for both, or they could not be compared; a few hot pixels must not darken the rest.
  const white = Math.max(1, percentile(gradients.filter(Boolean), 0.999));
  const pictures = await Promise.all(
    [left, right].map(async (picture, i) => picture && {
      ...picture,
      bitmap: await createImageBitmap(toImageData(picture.grey, picture.width, picture.height)),
      gradient: gradients[i],
      gradientBitmap: await createImageBitmap(toImageData(gradients[i], picture.width, picture.height, white)),
      meanGradient: mean(gradients[i]),
    }),
  );
  const shown = (picture) => createImageBitmap(toImageData(picture.grey, picture.width, picture.height));
  if (isAligned) {
    const greys = fitGreys(sent, right);
    pictures[0].matchedBitmap = await shown(regrey(left, greys));
    sent.matchedBitmap = await shown(regrey(sent, greys));
    sent.bitmap = await shown(sent);
  }
  return {
    pictures,
    white,
    sent: isAligned ? sent : null,
    isMisaligned: Boolean(sent) && !isAligned,
    histograms: [isAligned ? histogram(sent) : null, histogram(right)],
  };
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
