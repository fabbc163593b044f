/** Figures that say how far to trust a caption, in words. */

/** How well the relevance of what was found covers the region; dice and iou from 0 to 1, or null. */
export function looks({ dice, iou }) {
  if (dice === null || dice === undefined) return null;
  const figure = dice.toFixed(2);
  const detail = `Overlap of the region and what the model looked at: Dice ${figure}, IoU ${iou.toFixed(2)}`;
  if (dice >= 0.6) return { level: "good", text: `The model looks where you painted: ${figure}`, detail };
  if (dice >= 0.35) return { level: "fair", text: `The model looks partly where you painted: ${figure}`, detail };
  return { level: "poor", text: `The model looks elsewhere: ${figure}`, detail };
}

/** Whether the vector that was captioned is the region's or nearly the whole image's. */
export function about({ cosine_to_image: cosine }) {
  const figure = cosine.toFixed(2);
  const detail = `Cosine of the region's embedding and the whole image's: ${figure}`;
  if (cosine < 0.85) return { level: "good", text: `About the region, not the image: ${figure}`, detail };
  if (cosine < 0.97) return { level: "fair", text: `Close to the whole image: ${figure}`, detail };
  return { level: "poor", text: `About the whole image: ${figure}`, detail };
}

/** The caption's own probability, from its natural logarithm. */
export function likely({ logprob }) {
  const share = Math.exp(logprob);
  const figure = share >= 0.1 ? `${Math.round(100 * share)}%` : `${(100 * share).toPrecision(1)}%`;
  return {
    level: "plain",
    text: `The model gives these words ${figure}`,
    detail: `Probability of the whole caption; its natural logarithm is ${logprob.toFixed(2)}`,
  };
}

/** The words people typed as labels: separated by commas or lines, each once. */
export function labels(text) {
  return [...new Set(text.split(/[,\n]/).map((word) => word.trim()).filter(Boolean))];
}
