// Checks an AsyncAPI 3.0 document against the specification's own JSON Schema:
// node check.js DOCUMENT
const { readFileSync } = require("node:fs");
const specs = require("@asyncapi/specs");
const Ajv = require("ajv");

const schema = structuredClone(specs.schemas["3.0.0"]);
// Ajv brings the dialect itself.
delete schema.definitions["http://json-schema.org/draft-07/schema"];
const ajv = new Ajv({ strict: false, validateSchema: false, unicodeRegExp: false });
require("ajv-formats")(ajv);
const validate = ajv.compile(schema);
if (!validate(JSON.parse(readFileSync(process.argv[2], "utf8")))) {
  console.error(validate.errors);
  process.exit(1);
}
