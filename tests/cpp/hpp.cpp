// This file answers: does wsauth.hpp keep what it says?
//
// A whole life under the manual clock. run.sh compiles it in each way; prints "ok" or what did not hold.

#include "wsauth.hpp"

#include <cstdio>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <poll.h>

namespace {

int failures = 0;

void expect(bool holds, int line, const char *what) {
    if (holds) return;
    std::printf("tests/cpp/hpp.cpp:%d: does not hold: %s\n", line, what);
    ++failures;
}
#define EXPECT(condition) expect(static_cast<bool>(condition), __LINE__, #condition)

constexpr std::uint64_t start_ms = 1'800'000'000'000;
constexpr char issuer[] = "https://id.example.com";

// HS256 under the secret below. ann lives 600 s from the start, `ann_less` 1,200 s and only writes to the chat, eve
// 1,300 s; `old` ended 5 s before the start.
constexpr char ann[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibGl2ZSIsInN"
    "1YiI6ImFubiIsImlhdCI6MTc5OTk5OTk5OSwiZXhwIjoxODAwMDAwNjAwLCJqdGkiOiJhbm4tNjAwIiwicGVybWlzc2lvbnMiOls"
    "iY2hhdDp3cml0ZSIsImxpc3Rpbmc6NDI6cmVhZCIsImxpc3Rpbmc6NDI6d3JpdGUiXX0.h0SM-j3d_M3ThbrM4DddrO1QQqkfGBc"
    "lGygSqEaEC2Y";
constexpr char ann_less[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibGl2ZSIsInN"
    "1YiI6ImFubiIsImlhdCI6MTgwMDAwMDM1MCwiZXhwIjoxODAwMDAxMjAwLCJqdGkiOiJhbm4tMTIwMCIsInBlcm1pc3Npb25zIjp"
    "bImNoYXQ6d3JpdGUiXX0.EPRSnjco5o5LHOaVe3TBDzzkX-YriqDeQNCFBMWzc7Q";
constexpr char eve[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibGl2ZSIsInN"
    "1YiI6ImV2ZSIsImlhdCI6MTgwMDAwMDM1MCwiZXhwIjoxODAwMDAxMzAwLCJqdGkiOiJldmUtMTMwMCIsInBlcm1pc3Npb25zIjp"
    "bImNoYXQ6d3JpdGUiLCJsaXN0aW5nOjQyOnJlYWQiLCJsaXN0aW5nOjQyOndyaXRlIl19.mLXadmwT_UN2fMzlB15XwjWMN-iIIP"
    "ccXWaIHp3zsOk";
constexpr char old[] =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoibGl2ZSIsInN"
    "1YiI6ImFubiIsImlhdCI6MTc5OTk5OTkwMCwiZXhwIjoxNzk5OTk5OTk1LCJqdGkiOiJhbm4tLTUiLCJwZXJtaXNzaW9ucyI6WyJ"
    "jaGF0OndyaXRlIiwibGlzdGluZzo0MjpyZWFkIiwibGlzdGluZzo0Mjp3cml0ZSJdfQ.pyXcTeWGV_hMKVwJcFcfNOz58GVpK5dD"
    "fmphROTojuc";

constexpr char config[] = R"toml(
[[issuer]]
issuer = "https://id.example.com"
audience = ["live"]
algorithms = ["HS256"]
keys = { secrets = [{ text = "a secret of thirty-two bytes...." }] }

[sessions]
issuer = "session"

[handshake]
origins = ["https://app.example.com"]
credentials = ["authorization", "cookie", "first_message"]
cookie = { name = "sid", holds = "session" }
subprotocols = ["homes.v1"]
require_origin = false
trusted_proxies = []

[message]
binary = "blob"

[messages]
"listing.subscribe" = "listing:{listing_id}:read"
"listing.update" = "listing:{listing_id}:write"
"chat.send" = "chat:write"
"blob" = "chat:write"

[deliveries]
"listing.changed" = "listing:{listing_id}:read"

[connection]
shards = 2
idle = "1h"
)toml";

constexpr char misspelt[] = R"toml(
[sessions]
issuer = "session"
[handshake]
orgins = []
)toml";

// What serve() handed out, kept.
struct kept {
    wsauth::connection_id connection;
    wsauth::event_kind kind;
    wsauth::status why;
    int close_code;
    std::string text;
};

std::vector<kept> serve(const wsauth::engine &engine, std::uint32_t shard = 0) {
    std::vector<kept> events;
    const wsauth::served served = engine.serve(
        [&](const wsauth::event &event) {
            events.push_back({event.connection, event.kind, event.why, event.close_code, std::string(event.text)});
        },
        shard);
    EXPECT(served.why.ok() && served.count == events.size());
    return events;
}

bool has(const std::vector<kept> &events, wsauth::event_kind kind, std::string_view text) {
    for (const kept &event : events)
        if (event.kind == kind && event.text.find(text) != std::string::npos) return true;
    return false;
}

bool readable(int descriptor) {
    pollfd wait = {descriptor, POLLIN, 0};
    return poll(&wait, 1, 0) == 1 && (wait.revents & POLLIN) != 0;
}

wsauth::request upgrade(const std::string &authorization = {}) {
    wsauth::request request("GET", "/live");
    request.header("Host", "live.example.com")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", "homes.v1")
        .peer("192.0.2.1");
    if (!authorization.empty()) request.header("Authorization", authorization);
    return request;
}

wsauth::admission admit(const wsauth::engine &engine, const char *token) {
    const std::string authorization = std::string("Bearer ") + token;
    return engine.handshake(upgrade(authorization));
}

// What is made of nothing denies, and so does what was moved from.
void nothing_allows() {
    static_assert(!std::is_convertible_v<wsauth::status, bool>, "only an explicit question is answered");
    static_assert(!std::is_convertible_v<wsauth::verdict, bool>);
    static_assert(!std::is_convertible_v<wsauth::connection, bool>);
    static_assert(!std::is_copy_constructible_v<wsauth::lookup>);
    static_assert(!wsauth::status().ok());
    static_assert(wsauth::status(WSAUTH_OK).ok() && !wsauth::status(7).ok());
    static_assert(wsauth::status(7).category() == wsauth::category::fault);
    static_assert(wsauth::status(WSAUTH_TOKEN_EXPIRED).category() == wsauth::category::credential);

    EXPECT(!wsauth::verdict() && wsauth::verdict().action() == wsauth::action::drop);
    EXPECT(!wsauth::admission() && wsauth::admission().progress() == wsauth::progress::refused);
    EXPECT(!wsauth::result<int>(wsauth::status(WSAUTH_OK)));

    wsauth::connection none;
    EXPECT(!none && none.id() == 0);
    const wsauth::verdict verdict = none.text("{\"type\":\"chat.send\"}");
    EXPECT(!verdict && verdict.action() == wsauth::action::drop && verdict.payload().empty());
    EXPECT(none.authorize_delivery("listing.changed").category() == wsauth::category::misuse);
    EXPECT(none.refresh(ann).category() == wsauth::category::misuse && !none.touch() && !none.identity());
    none.close();

    wsauth::engine empty;
    EXPECT(!empty && empty.wake_descriptor() == -1 && empty.shards() == 0 && empty.timeout_ms() > 0);
    EXPECT(!admit(empty, ann) && !empty.metrics() && !empty.next_lookup() && !empty.reload(config));
    EXPECT(empty.drain_audit([](std::string_view) {}) == 0);
    const wsauth::served served = empty.serve([](const wsauth::event &) {});
    EXPECT(!served.why && served.timeout_ms > 0);
    std::vector<wsauth::connection_id> some = {1, 2};
    EXPECT(!empty.keep_deliverable(some, "listing.changed") && some.empty());
}

void configurations_are_refused() {
    const auto bad = wsauth::engine::from_toml(misspelt);
    EXPECT(!bad && bad.why() == WSAUTH_CONFIG_INVALID && !bad.value());
    EXPECT(bad.detail().find("line 5: unknown key `orgins`") != std::string::npos);
    EXPECT(bad->wake_descriptor() == -1);
    EXPECT(wsauth::engine::from_file("/nowhere").why() == WSAUTH_CONFIG_INVALID);
#if WSAUTH_HAS_EXCEPTIONS
    try {
        wsauth::engine::from_toml(misspelt).or_throw();
        EXPECT(!"or_throw did not throw");
    } catch (const wsauth::error &error) {
        EXPECT(error.why() == WSAUTH_CONFIG_INVALID);
        EXPECT(std::string(error.what()).find("config_invalid: ") == 0);
        EXPECT(std::string(error.what()).find("line 5: unknown key `orgins`") != std::string::npos);
    }
    const wsauth::engine engine = wsauth::engine::manual(config, start_ms).or_throw();
    EXPECT(engine && engine.shards() == 2);
#endif
}

void handshakes(const wsauth::engine &engine) {
    wsauth::admission accepted = admit(engine, ann);
    EXPECT(accepted && accepted.progress() == wsauth::progress::live && accepted.subprotocol() == "homes.v1");
    EXPECT(accepted.http_response().empty() && accepted.http_status() == 0);
    wsauth::connection connection = accepted.take();
    EXPECT(connection && !accepted.take());
    EXPECT(connection.identity().value().find("\"subject\":\"ann\"") != std::string::npos);
    EXPECT(connection.permissions().value() == R"(["chat:write","listing:42:read","listing:42:write"])");

    const wsauth::admission refused = admit(engine, old);
    EXPECT(!refused && refused.why() == WSAUTH_TOKEN_EXPIRED && refused.why().name() == "token_expired");
    EXPECT(refused.http_status() == 401 && refused.close_code() == 4002);
    EXPECT(refused.progress() == wsauth::progress::refused && refused.public_name() == "token_expired");
    const std::string http = refused.http_response();
    EXPECT(http.find("HTTP/1.1 401 Unauthorized\r\n") == 0 && http.find("\r\n\r\n{") != std::string::npos);
    EXPECT(http.find('\0') == std::string::npos && http.back() == '}');
    EXPECT(engine.handshake(wsauth::request("POST", "/").peer("192.0.2.1")).why() == WSAUTH_REQUEST_MALFORMED);
    const std::string bearer = std::string("Bearer ") + old;
    EXPECT(engine.explain(upgrade(bearer)).value().find("token_expired") != std::string::npos);

    const wsauth::connection_id id = connection.id();
    wsauth::connection moved = std::move(connection);
    EXPECT(moved.id() == id && moved.text(R"({"type":"chat.send"})"));
    wsauth::connection &same = moved;
    moved = std::move(same);
    EXPECT(moved.id() == id);
    moved = wsauth::connection();
    std::vector<wsauth::connection_id> stale = {id};
    EXPECT(engine.keep_deliverable(stale, "listing.changed", {{"listing_id", "42"}}) && stale.empty());
}

void messages(const wsauth::engine &engine) {
    const wsauth::connection connection = admit(engine, ann).take();
    const std::string_view said = R"({"type":"chat.send","text":"hello"})";
    const wsauth::verdict yes = connection.text(said);
    EXPECT(yes && yes.action() == wsauth::action::deliver && yes.payload().data() == said.data());
    EXPECT(yes.close_code() == 0 && yes.public_name().empty());

    const wsauth::verdict no = connection.text(R"({"type":"listing.update","listing_id":"7"})");
    EXPECT(!no && no.why() == WSAUTH_PERMISSION_MISSING && no.payload().empty());
    EXPECT(no.action() == wsauth::action::reply && no.close_code() == 4007);
    EXPECT(no.public_name() == "permission_denied" && no.http_status() == 403);
    EXPECT(readable(engine.wake_descriptor()));
    EXPECT(has(serve(engine), wsauth::event_kind::send, "permission_denied"));
    EXPECT(!readable(engine.wake_descriptor()));

    EXPECT(connection.binary(std::string_view("\0\xff", 2)).payload().size() == 2);
    EXPECT(connection.authorize("listing.update", {{"listing_id", "42"}}));
    EXPECT(!connection.authorize("listing.update", {{"listing_id", "43"}}));
    EXPECT(!connection.authorize("listing.update"));
    std::vector<std::string> names;
    for (int number = 0; number < 32; ++number) names.push_back("other" + std::to_string(number));
    std::vector<wsauth::field> many;
    for (const std::string &name : names) many.push_back({name, "7"});
    many[31] = {"listing_id", "42"};
    many.push_back({"one_too_many", "7"});
    EXPECT(connection.authorize("listing.update", {many.data(), many.size()}).why() == WSAUTH_MISUSE_ARGUMENT);
    EXPECT(connection.authorize("listing.update", {many.data(), 32}));
    EXPECT(connection.touch());

    const wsauth::verdict end = connection.text(R"({"type":"auth","token":"again"})");
    EXPECT(end.why() == WSAUTH_PROTOCOL_ERROR && end.action() == wsauth::action::close);
    const auto events = serve(engine);
    EXPECT(has(events, wsauth::event_kind::close, "protocol_error") && events.back().close_code == 4014);
    EXPECT(events.back().connection == connection.id() && events.back().why == WSAUTH_PROTOCOL_ERROR);
}

void deliveries(const wsauth::engine &engine) {
    const wsauth::connection first = admit(engine, ann).take();
    const wsauth::connection second = admit(engine, ann).take();
    EXPECT(first.authorize_delivery("listing.changed", {{"listing_id", "42"}}));
    EXPECT(first.authorize_delivery("listing.changed", {{"listing_id", "7"}}) == WSAUTH_PERMISSION_MISSING);

    std::vector<wsauth::connection_id> room = {second.id(), 12345, first.id()};
    EXPECT(second.set_permissions({"chat:write"}));
    EXPECT(engine.keep_deliverable(room, "listing.changed", {{"listing_id", "42"}}));
    EXPECT(room == std::vector<wsauth::connection_id>{first.id()});
    EXPECT(has(serve(engine), wsauth::event_kind::permissions, "\"removed\":[\"listing:42:read\""));
    EXPECT(engine.set_subject_permissions(issuer, "ann", {"listing:42:read"}).value() == 2);

    // More than one call takes.
    std::vector<wsauth::connection_id> crowd(70'000, first.id());
    crowd[65'535] = 1;
    crowd[65'536] = second.id();
    EXPECT(engine.keep_deliverable(crowd, "listing.changed", {{"listing_id", "42"}}) && crowd.size() == 69'999);
    EXPECT(crowd[65'534] == first.id() && crowd[65'535] == second.id() && crowd[65'536] == first.id());
    EXPECT(engine.keep_deliverable(crowd, "nothing.known") == WSAUTH_MESSAGE_TYPE_UNKNOWN && crowd.empty());
    EXPECT(engine.keep_deliverable(crowd, "nothing.known") == WSAUTH_MESSAGE_TYPE_UNKNOWN);
    (void)serve(engine);
}

// The token ends, is refreshed, is refused, and the subject is cut off.
void a_life(const wsauth::engine &engine) {
    wsauth::connection connection = admit(engine, ann).take();
    EXPECT(has(serve(engine), wsauth::event_kind::send, "auth_success"));
    EXPECT(engine.set_clock(start_ms + 350'000, 350'000));
    EXPECT(has(serve(engine), wsauth::event_kind::send, "token_refresh_required"));

    const wsauth::verdict other = connection.text(std::string(R"({"type":"token_refresh","token":")") + eve + "\"}");
    EXPECT(!other && other.action() == wsauth::action::reply);
    EXPECT(has(serve(engine), wsauth::event_kind::send, "token_refresh_failed"));
    EXPECT(connection.refresh(eve) == WSAUTH_IDENTITY_MISMATCH);
    (void)serve(engine);

    EXPECT(connection.refresh(ann_less));
    EXPECT(has(serve(engine), wsauth::event_kind::send, "token_refreshed"));
    EXPECT(connection.refresh(ann_less));
    EXPECT(engine.set_clock(start_ms + 700'000, 700'000));
    EXPECT(connection.text(R"({"type":"chat.send"})"));
    EXPECT(connection.text(R"({"type":"listing.update","listing_id":"42"})").why() == WSAUTH_PERMISSION_MISSING);

    EXPECT(engine.revoke(wsauth::revocation::token(issuer, "")).why() == WSAUTH_MISUSE_ARGUMENT);
    const auto cut = engine.revoke(wsauth::revocation::subject(issuer, "ann"));
    EXPECT(cut && cut->closed == 1 && cut->propagated == wsauth::propagated::off);
    EXPECT(connection.text(R"({"type":"chat.send"})").action() == wsauth::action::close);
    const auto events = serve(engine);
    EXPECT(has(events, wsauth::event_kind::close, "revoked") && events.back().close_code == 4006);
    EXPECT(admit(engine, ann_less).why() == WSAUTH_TOKEN_REVOKED);
    EXPECT(engine.revoke(wsauth::revocation::connection(connection.id())));

    // Time alone ends one, too, without anybody polling.
    const wsauth::connection brief = admit(engine, eve).take();
    EXPECT(brief.text(R"({"type":"chat.send"})"));
    EXPECT(engine.set_clock(start_ms + 1'300'000, 1'300'000));
    EXPECT(!brief.text(R"({"type":"chat.send"})"));
    const auto late = serve(engine);
    EXPECT(has(late, wsauth::event_kind::close, ""));
    EXPECT(late.back().close_code == 4002 || late.back().close_code == 4005);
}

// A session is a question that the host answers.
void lookups(const wsauth::engine &engine) {
    const auto ask = [&](const char *cookie) {
        wsauth::request request = upgrade();
        request.header("Origin", "https://app.example.com").header("Cookie", cookie).shard(1);
        return engine.handshake(request);
    };
    wsauth::admission asking = ask("sid=0123456789abcdef0123456789abcdef");
    EXPECT(asking && asking.progress() == wsauth::progress::authenticating);
    const wsauth::connection connection = asking.take();
    const wsauth::verdict early = connection.text(R"({"type":"chat.send"})");
    EXPECT(!early && early.why() == WSAUTH_HANDLED_HOLD && early.action() == wsauth::action::hold);
    EXPECT(early.payload().empty() && early.close_code() == 0);

    auto taken = engine.next_lookup();
    EXPECT(taken && taken->kind() == wsauth::lookup_kind::session && taken->issuer().empty());
    EXPECT(taken->about() == "0123456789abcdef0123456789abcdef" && taken->timeout().count() > 0);
    const wsauth::lookup moved = std::move(taken).value();
    EXPECT(moved.about() == "0123456789abcdef0123456789abcdef");
    EXPECT(engine.next_lookup().why() == WSAUTH_HANDLED_EMPTY);
    wsauth::answer answer = wsauth::answer::vouched("sue", start_ms + 5'000'000);
    answer.issued_at(start_ms / 1000).session_id("s-1").claims("{}");
    answer.permission("chat:write").permission("listing:42:read");
    EXPECT(engine.reply(moved, answer));
    EXPECT(engine.reply(moved, answer) == WSAUTH_MISUSE_HANDLE);
    EXPECT(has(serve(engine, 1), wsauth::event_kind::ready, ""));
    EXPECT(serve(engine, 0).empty());
    EXPECT(connection.text(R"({"type":"chat.send"})"));
    EXPECT(connection.authorize_delivery("listing.changed", {{"listing_id", "42"}}));
    EXPECT(connection.identity().value().find("\"session_id\":\"s-1\"") != std::string::npos);

    wsauth::admission unlucky = ask("sid=ffffffffffffffffffffffffffffffff");
    const wsauth::connection doomed = unlucky.take();
    EXPECT(engine.reply(engine.next_lookup().value(), wsauth::answer::unavailable(std::chrono::seconds(3))));
    const auto events = serve(engine, 1);
    EXPECT(has(events, wsauth::event_kind::refused, "unavailable"));
    const std::string http = wsauth::http_response(events.back().why, std::chrono::seconds(3));
    EXPECT(http.find("\r\nRetry-After: 3\r\n") != std::string::npos);
    EXPECT(engine.reply(wsauth::lookup(), wsauth::answer::inactive()) == WSAUTH_MISUSE_HANDLE);
    EXPECT(wsauth::lookup().url().empty() && moved.url().empty());
    // A response where nobody was asked over HTTP, and members where nobody was asked for them, are no answers.
    for (const wsauth::answer &strange :
         {wsauth::answer::response(200, "application/json", "{}"), wsauth::answer::profile("{\"plan\":\"pro\"}")}) {
        wsauth::admission strayed = ask("sid=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee");
        const wsauth::connection stray = strayed.take();
        EXPECT(engine.reply(engine.next_lookup().value(), strange));
        EXPECT(has(serve(engine, 1), wsauth::event_kind::refused, "unavailable"));
        EXPECT(!stray.text(R"({"type":"chat.send"})"));
    }
    EXPECT(engine.reply(moved, wsauth::answer::response(99, "", "")) == WSAUTH_MISUSE_ARGUMENT);
    EXPECT(engine.reply(moved, wsauth::answer::profile("[]")) == WSAUTH_MISUSE_ARGUMENT);
    EXPECT(!doomed.text(R"({"type":"chat.send"})"));
    EXPECT(engine.load_keys(issuer, "{}") == WSAUTH_KEY_UNKNOWN);
}

void operators(const wsauth::engine &engine) {
    std::vector<std::string> lines;
    EXPECT(engine.drain_audit([&](std::string_view line) { lines.emplace_back(line); }) == lines.size());
    EXPECT(lines.size() > 10 && lines.front().front() == '{' && lines.front().back() == '}');
    EXPECT(engine.drain_audit([](std::string_view) {}) == 0);
    for (const std::string &line : lines) EXPECT(line.find(std::string_view(ann).substr(100, 40)) == std::string::npos);
    EXPECT(engine.metrics().value().find("# TYPE ") != std::string::npos);

    const auto bad = engine.reload("nonsense");
    EXPECT(!bad && bad.why() == WSAUTH_CONFIG_INVALID && !bad.detail().empty());
    EXPECT(engine.reload(config));
    EXPECT(!engine.set_clock(start_ms, 1));
}

// A connection outlives its engine, in whichever order and thread they go.
void any_order() {
    wsauth::engine engine = wsauth::engine::manual(config, start_ms).value();
    std::unordered_map<wsauth::connection_id, wsauth::connection> sockets;
    for (int count = 0; count < 10; ++count) {
        wsauth::connection connection = admit(engine, ann).take();
        EXPECT(connection);
        sockets.emplace(connection.id(), std::move(connection));
    }
    EXPECT(admit(engine, ann).why() == WSAUTH_ADDRESS_CONNECTIONS);
    sockets.erase(sockets.begin());
    // One that nobody takes gives its permits back.
    EXPECT(admit(engine, ann));
    wsauth::connection last = admit(engine, ann).take();
    EXPECT(last);
    engine = wsauth::engine();
    EXPECT(last.text(R"({"type":"chat.send"})"));
    std::thread([moved = std::move(last)]() mutable { moved.close(); }).join();
    sockets.clear();
}

}  // namespace

int main() {
    EXPECT(wsauth::is_compatible());
    nothing_allows();
    configurations_are_refused();
    any_order();
    auto made = wsauth::engine::manual(config, start_ms);
    EXPECT(made);
    if (!made) std::printf("%s\n", made.detail().c_str());
    const wsauth::engine engine = std::move(made).value();
    handshakes(engine);
    messages(engine);
    deliveries(engine);
    a_life(engine);
    lookups(engine);
    operators(engine);
    if (failures == 0) std::printf("ok: wsauth.hpp %s exceptions\n", WSAUTH_HAS_EXCEPTIONS ? "with" : "without");
    return failures == 0 ? 0 : 1;
}
