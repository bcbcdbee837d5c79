// Segment's SDK for Node with nothing changed but its host and its write key.
//
//     node tell.cjs HOST SCENARIO
//
// Prints one line of JSON for each answer, and one at the end.
const { Analytics } = require("@segment/analytics-node");

const [host, scenario] = process.argv.slice(2);
const at = { timestamp: new Date("2026-01-01T00:00:00Z") };
const failed = [];

function client(options) {
  const analytics = new Analytics({ writeKey: "write-key", host, flushInterval: 100, ...options });
  analytics.on("error", (error) => failed.push(String(error.reason ?? error.code)));
  analytics.on("http_response", ({ status, body }) =>
    say({ status, ids: JSON.parse(body).batch.map((call) => call.messageId) }),
  );
  return analytics;
}

function say(words) {
  console.log(JSON.stringify(words));
}

const scenarios = {
  // Each kind of call once.
  everything(analytics, when = at) {
    const userId = "ana";
    const traits = { email: "ana@home.example", plan: "pro" };
    analytics.identify({ userId, traits, ...when });
    const event = { event: "Trial Started", properties: { seats: 3 } };
    analytics.track({ userId, messageId: "m-track", ...event, ...when });
    analytics.group({ userId, groupId: "acme", traits: { size: 12 } });
    const properties = { url: "https://shop.example/" };
    analytics.page({ userId, category: "Docs", name: "Home", properties });
    analytics.screen({ anonymousId: "anon-1", name: "Start" });
    analytics.alias({ userId, previousId: "anon-1" });
  },
  // What a program that runs on sees: everything twice, each call stamped with now.
  twice(analytics) {
    scenarios.everything(analytics, {});
    scenarios.everything(analytics, {});
  },
  many(analytics) {
    for (let n = 0; n < 50; n++) {
      analytics.track({ userId: "ana", messageId: `m-${n}`, event: "Clicked" });
    }
  },
  one(analytics) {
    analytics.track({ userId: "ana", messageId: "m-1", event: "Clicked" });
  },
};

async function main() {
  const analytics = client(scenario === "many" ? { flushAt: 20 } : {});
  scenarios[scenario](analytics);
  if (scenario === "many") {
    await analytics.flush();
  }
  await analytics.closeAndFlush();
  say({ failed });
}

main();
