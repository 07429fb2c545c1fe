// This file answers: how does a test talk to a peer? One JSON object a line: orders on stdin, answers on stdout.
// The peer ends when its stdin does, so that it never outlives the test.
import { createInterface } from 'node:readline';

// What the packages print must not be taken for an answer.
console.log = console.info = console.error;

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`);

export async function serve(hello, orders) {
  say(hello);
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...order } = JSON.parse(line);
    try {
      if (!Object.hasOwn(orders, name)) throw new Error(`no such order: ${name}`);
      say({ answer: (await orders[name](order)) ?? null });
    } catch (error) {
      say({ error: `${error.name}: ${error.message}` });
    }
  }
  process.exit(0);
}

// Resolves to the port once the server listens on a free one of loopback.
export function listen(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server.address().port));
  });
}

// Counts requests by method and path.
export class Counts {
  #counts = {};

  add(request) {
    const key = `${request.method} ${new URL(request.url, 'http://localhost').pathname}`;
    this.#counts[key] = (this.#counts[key] ?? 0) + 1;
  }

  get all() {
    return this.#counts;
  }
}
