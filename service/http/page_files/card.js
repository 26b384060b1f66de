// The model card: the answer of /model as a dialog.

import { node } from "./answer.js";

const $ = (id) => document.getElementById(id);

export function fillCard(model) {
  const training = model.training?.data ?? {};
  const parameters = Object.entries(model.generator.hyper_parameters).map(([k, v]) => `${k} ${v}`);
  const facts = [
    ["Enlarges", `×${model.scale}; tile ${model.tile[1]}×${model.tile[0]}, halo ${model.halo_px} px`],
    ["Version", model.version],
    ["sha256", model.sha256],
    ["Network", `${model.generator.name}: ${parameters.join(", ")}`],
    ["Runs on", `${model.engine}, ${model.precision}; at most ${model.max_batch_size} tiles a batch`],
    ...Object.entries(model.parity).map(([precision, figures]) => [
      `Parity ${precision}`,
      `against FP32 torch over ${figures.tiles} tiles: at most ${figures.max_error} grey levels, ` +
        `mean ${figures.mean_error.toPrecision(2)}, PSNR at least ${figures.psnr_db.toFixed(1)} dB`,
    ]),
    ["Trained on", typeof training === "string" ? training : training.statement],
    ["Images", training.image_count && `${training.image_count} from ${training.source_count} sources`],
    ["Credits", training.credits],
  ];
  const list = node("dl");
  for (const [name, text] of facts.filter(([, value]) => value)) list.append(node("dt", name), node("dd", text));
  const limits = node("p", "A model knows what it was trained on. On pictures of another tool, material, magnification " +
    "or scan mode, judge its answers against slow scans before anything depends on them.", { class: "limits" });
  $("card-title").textContent = `Model card: ${model.name}`;
  $("card-body").replaceChildren(list, limits);
}
