// Read AsyncAPI documents with AsyncAPI's own parser. Prints every finding; exits 1 when one of them is an error.
// Usage: node validate.mjs FILE...
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];
let errors = 0;

for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await new Parser().parse(await readFile(file, "utf8"), { source: file });
  for (const { severity, path, message } of diagnostics) {
    console.log(`${SEVERITIES[severity]} ${path.join("/")}: ${message}`);
  }
  const found = diagnostics.filter(({ severity }) => severity === 0).length;
  errors += found;
  if (document) {
    const { length: channels } = document.channels().all();
    const { length: messages } = document.components().messages().all();
    const { length: operations } = document.operations().all();
    console.log(`read ${channels} channels, ${messages} messages, ${operations} operations`);
  } else if (found === 0) {
    errors += 1;
    console.log("error: the document could not be read");
  }
}
process.exit(errors === 0 ? 0 : 1);
