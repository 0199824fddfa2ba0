// Subscribes to a cluster's events: prints one line an event, acknowledges it, and
// goes on where it stopped when it is started again.
//
//   reprise integrator create billing --allow 'pods.shop.>'
//   npm ci && node subscribe.js nats://127.0.0.1:4222 billing billing.nk
import { readFileSync } from "node:fs";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const [server, name, keyFile] = process.argv.slice(2);
if (!keyFile) {
  console.error("usage: node subscribe.js SERVER CONSUMER KEYFILE");
  process.exit(2);
}
const seed = new TextEncoder().encode(readFileSync(keyFile, "utf8").trim());

// Never give up: while the server is away, nothing is lost.
const nc = await connect({ servers: server, authenticator: nkeyAuthenticator(seed), maxReconnectAttempts: -1 });

// The consumer is there already: whoever made the key made it too.
const consumer = await jetstream(nc).consumers.get("REPRISE", name);

for await (const m of await consumer.consume({ max_messages: 100 })) {
  // The same event may come twice. Its id is its place in the log: 1, 2, 3.
  console.log(m.headers.get("ce-id"), m.headers.get("ce-type"), m.headers.get("ce-subject"), m.data.length);
  // Acknowledge when you are done with it, and not before.
  m.ack();
}
