// The preparation of a picture, byte for byte as altreco-client's prepare().
import sharp from "sharp";

const SIDE = 224;
const SHORT_SIDE = 256;
const MAX_PIXELS = 64_000_000;
const FORMATS = ["jpeg", "png", "webp", "gif", "tiff"];
const BITS = 22; // of a weight after the point, in Pillow's resize

interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
  channels: number; // 3: RGB, 4: RGBA or CMYK
}

/** Decode a file, turn it upright and crop it: RGB, 224 x 224 x 3 bytes. Throws an Error for what is no picture. */
export async function prepare(file: Buffer): Promise<Uint8Array> {
  const input = { limitInputPixels: MAX_PIXELS };
  const { format, width, height, space, depth, orientation = 1 } = await sharp(file, input).metadata();
  if (!FORMATS.includes(format) || (depth !== "uchar" && depth !== "ushort")) {
    throw new Error(`a picture of ${format}, ${depth}: expected ${FORMATS.join(", ")} of 8 or 16 bits`);
  }
  let image = sharp(file, input);
  const cmyk = space === "cmyk";
  if (cmyk) image = image.pipelineColourspace("cmyk").toColourspace("cmyk");
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const pixels: Pixels = { data, width: info.width, height: info.height, channels: info.channels };
  const alpha = pixels.channels === 4 && !cmyk;
  if (alpha) premultiply(pixels.data);
  const tile = crop(pixels);
  const rgb = cmyk ? fromCmyk(tile) : alpha ? onWhite(tile) : tile;
  return upright(rgb, orientation);
}

/** Scale the short side to 256 and cut out the middle, 224 x 224, in one step: Pillow's resize with a box. */
function crop(pixels: Pixels): Uint8Array {
  const { width, height } = pixels;
  const side = (Math.min(width, height) * SIDE) / SHORT_SIDE;
  const columns = weights(width, (width - side) / 2, side);
  const rows = weights(height, (height - side) / 2, side);
  // Pillow 13 begins with what shrinks the picture more. Each pass rounds, so the order shows.
  const downFirst = height - SIDE > 2 * Math.max(0, width - SIDE);
  return (downFirst ? along(down(pixels, rows), columns) : down(along(pixels, columns), rows)).data;
}

interface Weights {
  first: number;
  values: number[];
}

/** The input samples and their weights for each of 224 output samples: a triangle as wide as the scale, at least 1. */
function weights(size: number, start: number, length: number): Weights[] {
  const scale = length / SIDE;
  const support = Math.max(scale, 1);
  return Array.from({ length: SIDE }, (_, i) => {
    const center = start + (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const triangle = [];
    for (let x = first; x < last; x++) triangle.push(Math.max(0, 1 - Math.abs((x - center + 0.5) * (1 / support))));
    const sum = triangle.reduce((a, b) => a + b, 0);
    return { first, values: triangle.map((value) => Math.floor(0.5 + (value / sum) * (1 << BITS))) };
  });
}

function along({ data, width, height, channels }: Pixels, plan: Weights[]): Pixels {
  const result = new Uint8Array(height * SIDE * channels);
  let place = 0;
  for (let y = 0; y < height; y++) {
    for (const { first, values } of plan) {
      for (let c = 0; c < channels; c++) result[place++] = average(data, (y * width + first) * channels + c, channels, values);
    }
  }
  return { data: result, width: SIDE, height, channels };
}

function down({ data, width, channels }: Pixels, plan: Weights[]): Pixels {
  const row = width * channels;
  const result = new Uint8Array(SIDE * row);
  let place = 0;
  for (const { first, values } of plan) {
    for (let x = 0; x < row; x++) result[place++] = average(data, first * row + x, row, values);
  }
  return { data: result, width, height: SIDE, channels };
}

/** The weighted sum of samples that are `step` bytes apart. */
function average(data: Uint8Array, start: number, step: number, values: number[]): number {
  let sum = 1 << (BITS - 1);
  for (let i = 0; i < values.length; i++) sum += data[start + i * step] * values[i];
  return Math.min(255, sum >> BITS);
}

/** value / 255, rounded, for products of two bytes. */
function over255(value: number): number {
  return ((value + 128) + ((value + 128) >> 8)) >> 8;
}

function premultiply(rgba: Uint8Array): void {
  for (let i = 0; i < rgba.length; i += 4) {
    for (let c = i; c < i + 3; c++) rgba[c] = over255(rgba[c] * rgba[i + 3]);
  }
}

/** RGB from premultiplied RGBA: divided by the opacity again, then laid on white. */
function onWhite(rgba: Uint8Array): Uint8Array {
  return threeOfFour(rgba, (premultiplied, alpha) => {
    const value = alpha === 0 ? 0 : Math.min(255, Math.floor((255 * premultiplied) / alpha));
    const sum = 128 * (value * alpha + 255 * (255 - alpha) + 128);
    return (((sum >> 8) + sum) >> 8) >> 7;
  });
}

function fromCmyk(cmyk: Uint8Array): Uint8Array {
  return threeOfFour(cmyk, (ink, black) => 255 - black - over255(ink * (255 - black)));
}

function threeOfFour(data: Uint8Array, convert: (value: number, fourth: number) => number): Uint8Array {
  const rgb = new Uint8Array((data.length / 4) * 3);
  for (let i = 0, to = 0; i < data.length; i += 4) {
    for (let c = i; c < i + 3; c++) rgb[to++] = convert(data[c], data[i + 3]);
  }
  return rgb;
}

/** Undo the EXIF orientation, 1 to 8, of 224 x 224 pixels. */
function upright(rgb: Uint8Array, orientation: number): Uint8Array {
  if (orientation === 1) return rgb;
  const result = new Uint8Array(rgb.length);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      let [row, column] = orientation >= 5 ? [x, y] : [y, x];
      if ([3, 4, 6, 7].includes(orientation)) row = SIDE - 1 - row;
      if ([2, 3, 7, 8].includes(orientation)) column = SIDE - 1 - column;
      const from = 3 * (row * SIDE + column);
      result.set(rgb.subarray(from, from + 3), 3 * (y * SIDE + x));
    }
  }
  return result;
}
