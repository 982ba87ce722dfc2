// The same class for `import`. A file with `export` is no classic script, so the class itself stands beside this one.
import * as loaded from "./veilsupport-client.js";
export const VeilSupportClient = (loaded.default ?? globalThis).VeilSupportClient;
