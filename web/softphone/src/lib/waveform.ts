/** The loudness of a recording over time, drawn per channel. */

/** The loudest sample of each of `columns` equal pieces, 0 to 1. */
export function peaks(samples: Float32Array, columns: number): number[] {
  const found: number[] = [];
  for (let column = 0; column < columns; column += 1) {
    const from = Math.floor((column * samples.length) / columns);
    const to = Math.floor(((column + 1) * samples.length) / columns);
    let peak = 0;
    for (let at = from; at < to; at += 1) peak = Math.max(peak, Math.abs(samples[at] ?? 0));
    found.push(Math.min(1, peak));
  }
  return found;
}

export interface Colours {
  channels: [string, string];
  played: string;
  background: string;
}

/** The upper half is the left channel, the lower half the right one; `position` is 0 to 1. */
export function draw(canvas: HTMLCanvasElement, sides: number[][], position: number, colours: Colours): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.fillStyle = colours.background;
  context.fillRect(0, 0, width * position, height);
  sides.slice(0, 2).forEach((side, channel) => {
    context.fillStyle = colours.channels[channel === 0 ? 0 : 1];
    const middle = (height / 4) * (channel === 0 ? 1 : 3);
    const step = width / side.length;
    side.forEach((peak, column) => {
      const tall = Math.max(1, (peak * height) / 2 - 4);
      context.fillRect(column * step, middle - tall / 2, Math.max(1, step - 1), tall);
    });
  });
  context.fillStyle = colours.played;
  context.fillRect(Math.min(width - 2, width * position), 0, 2, height);
}
