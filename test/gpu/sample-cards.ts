// The process that CardSampler starts: `node sample-cards.js UUID …`.

import { runSampler } from "./card-sampler.js";

runSampler(process.argv.slice(2));
