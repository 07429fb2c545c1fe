/* wsauth.hpp: wsauth.h for C++17. Header-only; link what wsauth.h needs and nothing else.
 *
 * The contract is the one on top of wsauth.h. What C++ adds:
 *
 * WHAT CANNOT BE FORGOTTEN
 *   A status, verdict, admission or result that nobody looks at is a compiler warning. Each one denies when it is made
 *   of nothing. A verdict gives the message only when it may be delivered, a refused admission holds no connection, a
 *   failed result holds a value that denies: an empty engine, for which every call is misuse. No access is undefined
 *   behaviour, and none aborts.
 *
 * WHO OWNS WHAT
 *   engine and connection move and do not copy. ~connection says that the socket is gone; so keep it beside the socket.
 *   A connection keeps its engine alive: they may be destroyed in any order. Everything that goes in is borrowed for
 *   the call; string_views that come out live as long as the object that gave them, those of an event until the handler
 *   returns, names of a status for ever. A verdict's payload is the message itself: it lives as long as that does.
 *
 * THREADS
 *   As in wsauth.h: all const members of engine and connection, from any thread, at any time. Moving and destroying are
 *   writes, as everywhere in C++.
 *
 * EXCEPTIONS
 *   None is needed and none is thrown by the library, but std::bad_alloc where a std::string or vector comes out. With
 *   exceptions, result::or_throw() turns a failed result into wsauth::error. Compiles with -fno-exceptions.
 *
 * EXAMPLE
 *
 *   auto engine = wsauth::engine::from_file("wsauth.toml");
 *   if (!engine) return fail(engine.detail());
 *
 *   // an upgrade request came
 *   wsauth::request request("GET", target);
 *   for (auto& [name, value] : headers) request.header(name, value);
 *   auto admission = engine->handshake(request.peer(address));
 *   if (!admission) return write_and_close(admission.http_response());
 *   socket.auth = admission.take();                // finish the upgrade with admission.subprotocol()
 *
 *   // a message came
 *   auto verdict = socket.auth.text(message);
 *   switch (verdict.action()) {
 *       case wsauth::action::deliver: application(socket, verdict.payload()); break;
 *       case wsauth::action::hold:    stop_reading_until_ready(socket); break;
 *       case wsauth::action::close:   stop_reading(socket); break;
 *       case wsauth::action::reply:   // serve() has an answer for the peer
 *       case wsauth::action::drop:    break;
 *   }
 *
 *   // engine->wake_descriptor() is readable, or the timeout of the last serve() has passed
 *   auto served = engine->serve([&](const wsauth::event& event) {
 *       switch (event.kind) {
 *           case wsauth::event_kind::send:        send(event.connection, event.text); break;
 *           case wsauth::event_kind::ready:       read_on(event.connection); break;
 *           case wsauth::event_kind::refused:
 *           case wsauth::event_kind::close:       close(event.connection, event.close_code, event.text); break;
 *           case wsauth::event_kind::permissions: break;
 *       }
 *   });
 *   wait_at_most(served.timeout_ms);
 */
#ifndef WSAUTH_HPP
#define WSAUTH_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "wsauth.h"

#if !defined(WSAUTH_NO_EXCEPTIONS) && (defined(__cpp_exceptions) || defined(_CPPUNWIND))
#define WSAUTH_HAS_EXCEPTIONS 1
#include <stdexcept>
#else
#define WSAUTH_HAS_EXCEPTIONS 0
#endif

namespace wsauth {

/* A connection by its number, as events name it. 0 is never one. No secret, but nothing for a peer. */
using connection_id = ::wsauth_connection;

/* The thousands of a result; switch on what you care about and deny in `default`. */
enum class category : std::uint32_t {
    ok = 0,
    handled = 10,
    misuse = 11,
    fault = 12,
    configuration = 13,
    credential = 14,
    life = 15,
    limit = 16,
    request = 17,
    message = 18,
};

/* What to do with a message that came in. */
enum class action : std::uint32_t {
    drop = 0, /* nothing: it is refused, or the call was misuse */
    deliver,  /* give it to the application */
    reply,    /* do not deliver; serve() answers the peer */
    hold,     /* still authenticating: stop reading, and offer it again after event_kind::ready */
    close,    /* the connection ends: stop reading; serve() hands out its event_kind::close, or has done so */
};

/* How an accepted handshake goes on. */
enum class progress : std::uint32_t {
    refused = 0,
    live = WSAUTH_PROGRESS_LIVE,                     /* finish the upgrade */
    authenticating = WSAUTH_PROGRESS_AUTHENTICATING, /* hold the upgrade back until event_kind::ready or refused */
    awaiting_auth = WSAUTH_PROGRESS_AWAITING_AUTH,   /* finish the upgrade; the first message authenticates */
};

/* What the server must do for one connection. Kinds of a newer library are skipped. */
enum class event_kind : std::uint32_t {
    send = WSAUTH_EVENT_SEND,               /* send `text` as a text message */
    ready = WSAUTH_EVENT_READY,             /* authenticated: finish the upgrade, or read on */
    refused = WSAUTH_EVENT_REFUSED,         /* not authenticated: http_response(why, retry_after), or close it */
    permissions = WSAUTH_EVENT_PERMISSIONS, /* `text` is {"added":[...],"removed":[...]} */
    close = WSAUTH_EVENT_CLOSE,             /* close it with `close_code` and `text` */
};

namespace detail {

inline wsauth_bytes bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}

inline const std::uint8_t *data(std::string_view text) noexcept {
    return reinterpret_cast<const std::uint8_t *>(text.data());
}

inline std::string_view view(wsauth_bytes bytes) noexcept {
    if (bytes.ptr == nullptr) return {};
    return {reinterpret_cast<const char *>(bytes.ptr), bytes.len};
}

inline std::string_view name(const char *text) noexcept { return text == nullptr ? std::string_view() : text; }

/* Milliseconds as the ABI has them: none below 0, the largest for what is larger. */
inline std::uint32_t milliseconds(std::chrono::milliseconds time) noexcept {
    if (time.count() <= 0) return 0;
    const auto most = static_cast<std::uint64_t>(std::numeric_limits<std::uint32_t>::max());
    const auto given = static_cast<std::uint64_t>(time.count());
    return static_cast<std::uint32_t>(given < most ? given : most);
}

}  // namespace detail

/* What a call came to: yes, or one of many kinds of no. Made of nothing it is a no. 4 bytes; copy it. */
class [[nodiscard]] status {
public:
    constexpr status() noexcept = default;
    constexpr explicit status(wsauth_result number) noexcept : number_(number) {}

    /* Whether it is WSAUTH_OK, the only yes. */
    constexpr bool ok() const noexcept { return number_ == WSAUTH_OK; }
    constexpr explicit operator bool() const noexcept { return ok(); }

    /* The number, to compare with WSAUTH_*. */
    constexpr wsauth_result number() const noexcept { return number_; }

    /* Its class. A number that is no result of any library is a fault. */
    constexpr wsauth::category category() const noexcept {
        if (ok()) return wsauth::category::ok;
        return number_ < 10000 ? wsauth::category::fault : static_cast<wsauth::category>(number_ / 1000);
    }

    /* Its name, and one sentence: for the log. Static text, as the next ones.   Cost: a small search. */
    std::string_view name() const noexcept { return detail::name(::wsauth_reason_name(number_)); }
    std::string_view text() const noexcept { return detail::name(::wsauth_reason_text(number_)); }

    /* What the peer may read of it; empty where nothing is refused. */
    std::string_view public_name() const noexcept { return detail::name(::wsauth_reason_public_name(number_)); }
    std::string_view public_text() const noexcept { return detail::name(::wsauth_reason_public_text(number_)); }

    /* What the client should do next: "refresh", "relogin", "retry", "retry_after", "never". */
    std::string_view client_action() const noexcept { return detail::name(::wsauth_reason_action(number_)); }

    friend constexpr bool operator==(status left, status right) noexcept { return left.number_ == right.number_; }
    friend constexpr bool operator!=(status left, status right) noexcept { return left.number_ != right.number_; }
    friend constexpr bool operator==(status left, wsauth_result right) noexcept { return left.number_ == right; }
    friend constexpr bool operator!=(status left, wsauth_result right) noexcept { return left.number_ != right; }

private:
    wsauth_result number_ = WSAUTH_FAULT_INTERNAL;
};

#if WSAUTH_HAS_EXCEPTIONS
/* What result::or_throw throws. */
class error : public std::runtime_error {
public:
    error(status why, const std::string &detail)
        : std::runtime_error(std::string(why.name()) + ": " + (detail.empty() ? std::string(why.text()) : detail)),
          why_(why) {}

    status why() const noexcept { return why_; }

private:
    status why_;
};
#endif

/* A value, or why there is none. Where there is none, value() is a T made of nothing, which denies: reading it is never
 * undefined and never lets anybody in. */
template <class T>
class [[nodiscard]] result {
public:
    result() = default;
    result(T value) : why_(WSAUTH_OK), value_(std::move(value)) {}

    /* A failure. There is no yes without a value: WSAUTH_OK becomes a fault here. */
    explicit result(status why, std::string detail = {})
        : why_(why.ok() ? status() : why), detail_(std::move(detail)) {}

    bool ok() const noexcept { return why_.ok(); }
    explicit operator bool() const noexcept { return ok(); }
    status why() const noexcept { return why_; }

    /* More for the operator, where there is more: what is wrong with a configuration. Holds no secret. */
    const std::string &detail() const noexcept { return detail_; }

    T &value() & noexcept { return value_; }
    const T &value() const & noexcept { return value_; }
    T value() && { return std::move(value_); }
    T &operator*() & noexcept { return value_; }
    const T &operator*() const & noexcept { return value_; }
    T operator*() && { return std::move(value_); }
    T *operator->() noexcept { return &value_; }
    const T *operator->() const noexcept { return &value_; }

#if WSAUTH_HAS_EXCEPTIONS
    /* The value, or wsauth::error. */
    T or_throw() && {
        if (!ok()) throw error(why_, detail_);
        return std::move(value_);
    }
#endif

private:
    status why_;
    T value_{};
    std::string detail_;
};

/* The value of a result that has none. */
struct done {};

namespace detail {

/* Copies a text out: `call(buffer, capacity, needed)` until it fits. Another thread may make it longer in between. */
template <class Call>
result<std::string> copied(std::size_t room, Call call) {
    std::string text(room, '\0');
    status why;
    for (int attempt = 0; attempt < 8; ++attempt) {
        std::size_t needed = 0;
        why = status(call(&text[0], text.size() + 1, &needed));
        if (why.ok()) {
            text.resize(needed > 0 ? needed - 1 : 0);
            return text;
        }
        if (why != WSAUTH_HANDLED_BUFFER || needed == 0) break;
        text.assign(needed - 1, '\0');
    }
    return result<std::string>(why);
}

struct freeing {
    void operator()(::wsauth_engine *engine) const noexcept { ::wsauth_engine_free(engine); }
};

using shared_engine = std::shared_ptr<::wsauth_engine>;

}  // namespace detail

/* The complete HTTP/1.1 response that refuses an upgrade: write it to the socket and close. Holds only public text.
 * Empty where nothing is refused.   Threads: any.   Cost: formats half a kilobyte. */
inline std::string http_response(status why, std::chrono::milliseconds retry_after = std::chrono::milliseconds(0)) {
    const std::uint32_t ms = detail::milliseconds(retry_after);
    return detail::copied(1023, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
               return ::wsauth_refusal_http(why.number(), ms, buffer, capacity, needed);
           }).value();
}

/* Whether the library is one that this header can speak to. Making an engine asks it. */
inline bool is_compatible() noexcept { return ::wsauth_abi() == WSAUTH_ABI; }

/* A field that fills a permission's pattern. Borrowed. */
struct field {
    std::string_view name;
    std::string_view value;
};

/* At most 32 of them, on the stack; more are misuse. {{"listing_id", id}} makes one. */
class fields {
public:
    fields() noexcept = default;
    fields(std::initializer_list<field> list) noexcept : fields(list.begin(), list.size()) {}
    fields(const field *first, std::size_t count) noexcept : count_(count) {
        // More than fit are refused by their count, before one is looked at.
        for (std::size_t at = 0; at < count && at < most; ++at)
            fields_[at] = {detail::bytes(first[at].name), detail::bytes(first[at].value)};
    }

    const wsauth_field *data() const noexcept { return count_ == 0 ? nullptr : fields_; }
    std::size_t size() const noexcept { return count_; }

private:
    static constexpr std::size_t most = 32;
    wsauth_field fields_[most];
    std::size_t count_ = 0;
};

/* Whether a message may be delivered, and what to do with it when not. Made of nothing it denies. */
class [[nodiscard]] verdict {
public:
    verdict() noexcept = default;
    verdict(status why, const wsauth_decision &decision, std::string_view payload) noexcept
        : why_(why), decision_(decision), payload_(why.ok() ? payload : std::string_view()) {}

    bool ok() const noexcept { return why_.ok(); }
    explicit operator bool() const noexcept { return ok(); }
    status why() const noexcept { return why_; }

    /* What to do. An action of a newer library is to drop. */
    wsauth::action action() const noexcept {
        if (ok()) return wsauth::action::deliver;
        switch (decision_.action) {
            case WSAUTH_ACTION_HOLD: return wsauth::action::hold;
            case WSAUTH_ACTION_REPLY_QUEUED: return wsauth::action::reply;
            case WSAUTH_ACTION_CLOSE: return wsauth::action::close;
            default: return wsauth::action::drop;
        }
    }

    /* The message, for the application; empty unless it may be delivered. Points into what was passed in. */
    std::string_view payload() const noexcept { return payload_; }

    /* For a refusal; 0 and empty for what refuses nothing. serve() does everything that these say. */
    std::uint16_t close_code() const noexcept { return decision_.close_code; }
    std::uint16_t http_status() const noexcept { return decision_.http_status; }
    std::string_view public_name() const noexcept { return detail::name(decision_.public_name); }
    std::string_view client_action() const noexcept { return detail::name(decision_.client_action); }
    std::chrono::milliseconds retry_after() const noexcept {
        return std::chrono::milliseconds(decision_.retry_after_ms);
    }

private:
    status why_;
    wsauth_decision decision_{};
    std::string_view payload_;
};

/* An upgrade request as the server received it. Borrows everything it is given until the handshake has returned. */
class request {
public:
    request(std::string_view method, std::string_view target) {
        raw_.method = detail::bytes(method);
        raw_.target = detail::bytes(target);
    }

    /* One header line, in the order received; a repeated one repeatedly. The value without white space around it. */
    request &header(std::string_view name, std::string_view value) {
        headers_.push_back({detail::bytes(name), detail::bytes(value)});
        return *this;
    }

    /* The other end of the socket as text, from the operating system and never from a header. One peer is needed. */
    request &peer(std::string_view address) noexcept { return peer(WSAUTH_PEER_TEXT, detail::bytes(address)); }

    /* The same as a struct sockaddr. */
    request &peer_sockaddr(const void *address, std::size_t size) noexcept {
        return peer(WSAUTH_PEER_SOCKADDR, {static_cast<const std::uint8_t *>(address), size});
    }

    /* The peer came over a unix socket. */
    request &peer_unix() noexcept { return peer(WSAUTH_PEER_UNIX, {nullptr, 0}); }

    /* The shard whose serve() reports this connection; 0 unless said. */
    request &shard(std::uint32_t shard) noexcept {
        raw_.shard = shard;
        return *this;
    }

    /* For the C call; valid until this changes. */
    wsauth_request raw() const noexcept {
        wsauth_request whole = raw_;
        whole.headers = headers_.data();
        whole.header_count = headers_.size();
        return whole;
    }

private:
    request &peer(std::uint32_t kind, wsauth_bytes address) noexcept {
        raw_.peer_kind = kind;
        raw_.peer = address;
        return *this;
    }

    wsauth_request raw_ = WSAUTH_REQUEST_INIT;
    std::vector<wsauth_field> headers_;
};

/* One connection that was let in, or an empty one. Its destructor says that the socket is gone, which gives back the
 * peer's permits: keep it beside the socket. Calls on an empty one are misuse and allow nothing. */
class connection {
public:
    connection() noexcept = default;
    connection(connection &&other) noexcept : engine_(std::move(other.engine_)), id_(std::exchange(other.id_, 0)) {}
    connection &operator=(connection &&other) noexcept {
        if (this != &other) {
            close();
            engine_ = std::move(other.engine_);
            id_ = std::exchange(other.id_, 0);
        }
        return *this;
    }
    connection(const connection &) = delete;
    connection &operator=(const connection &) = delete;
    ~connection() { close(); }

    /* Its number, as events name it; 0 for an empty one. */
    connection_id id() const noexcept { return id_; }

    /* Whether there is one. Says nothing about what it may do. */
    explicit operator bool() const noexcept { return id_ != 0; }

    /* Decides whether one inbound message may reach the application: once a message, after reassembly.
     * Ownership: nothing is kept; the verdict points into the message.   Threads: any, also on one connection.
     * Cost: one pass over it; no lock, no allocation and no system call for types without a pattern. */
    verdict text(std::string_view message) const noexcept { return decide(WSAUTH_PAYLOAD_TEXT, message); }
    verdict binary(std::string_view message) const noexcept { return decide(WSAUTH_PAYLOAD_BINARY, message); }

    /* Decides for what is not JSON: you name the type and the fields its pattern reads. Charged like a message.
     * Cost: no allocation and no system call; a type with a pattern takes this connection's own lock. */
    verdict authorize(std::string_view type, const fields &given = {}) const noexcept {
        wsauth_decision decision{};
        const status why(::wsauth_authorize(engine_.get(), id_, detail::data(type), type.size(), given.data(),
                                            given.size(), &decision));
        return {why, decision, {}};
    }

    /* Decides whether this peer may receive this; ask at each delivery, not at subscription. Costs the peer nothing.
     * For many connections at once there is engine::keep_deliverable.   Cost: as authorize. */
    status authorize_delivery(std::string_view type, const fields &given = {}) const noexcept {
        return status(::wsauth_authorize_delivery(engine_.get(), id_, detail::data(type), type.size(), given.data(),
                                                  given.size()));
    }

    /* Puts a new token in force, for clients that bring it by another way than a `token_refresh` message.
     * WSAUTH_HANDLED_PENDING when its source is asked first. A refusal changes nothing but the count of attempts.
     * Cost: one signature. */
    status refresh(std::string_view token) const noexcept {
        return status(::wsauth_refresh(engine_.get(), id_, detail::data(token), token.size(), nullptr));
    }

    /* Replaces what it may do until its next refresh. In force when this returns; at most 256. */
    status set_permissions(const std::vector<std::string_view> &permissions) const {
        std::vector<wsauth_bytes> views;
        for (const std::string_view permission : permissions) views.push_back(detail::bytes(permission));
        return status(::wsauth_connection_set_permissions(engine_.get(), id_, views.data(), views.size()));
    }

    /* Notes that the peer is there, on a pong. Delivered messages are noted anyway. Whether it was live. */
    bool touch() const noexcept { return ::wsauth_connection_touch(engine_.get(), id_) == WSAUTH_OK; }

    /* Who it is: one JSON object of verified facts, described in wsauth.h. Holds no token. */
    result<std::string> identity() const {
        return detail::copied(1023, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
            return ::wsauth_connection_identity(engine_.get(), id_, buffer, capacity, needed);
        });
    }

    /* What it may do now: a JSON array of strings. */
    result<std::string> permissions() const {
        return detail::copied(1023, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
            return ::wsauth_connection_permissions(engine_.get(), id_, buffer, capacity, needed);
        });
    }

    /* Says that the socket is gone, and is empty from then on. The destructor does it too. */
    void close() noexcept {
        if (id_ != 0) {
            // A child of a fork holds its parent's handles, which are stale there: nothing is to be done about it.
            [[maybe_unused]] const wsauth_result result = ::wsauth_connection_closed(engine_.get(), id_);
        }
        id_ = 0;
        engine_.reset();
    }

private:
    friend class admission;

    connection(detail::shared_engine engine, connection_id id) noexcept : engine_(std::move(engine)), id_(id) {}

    verdict decide(std::uint32_t kind, std::string_view message) const noexcept {
        wsauth_decision decision{};
        const status why(
            ::wsauth_message(engine_.get(), id_, kind, detail::data(message), message.size(), &decision));
        return {why, decision, message};
    }

    detail::shared_engine engine_;
    connection_id id_ = 0;
};

/* What a handshake came to. Holds the connection until take() moves it out; a refused one holds none. */
class [[nodiscard]] admission {
public:
    admission() noexcept = default;
    admission(status why, const wsauth_handshake_result &raw, const detail::shared_engine &engine) noexcept
        : why_(why), raw_(raw) {
        if (why.ok()) connection_ = wsauth::connection(engine, raw.connection);
    }

    bool ok() const noexcept { return why_.ok(); }
    explicit operator bool() const noexcept { return ok(); }
    status why() const noexcept { return why_; }

    /* How it goes on. What a newer library calls otherwise is refused here. */
    wsauth::progress progress() const noexcept {
        if (!ok() || raw_.progress > WSAUTH_PROGRESS_AWAITING_AUTH) return wsauth::progress::refused;
        return static_cast<wsauth::progress>(raw_.progress);
    }

    /* The subprotocol to answer with; empty for none. Never the one that carried the token. */
    std::string_view subprotocol() const noexcept { return raw_.subprotocol; }

    /* The connection, once; an empty one when refused. */
    wsauth::connection take() noexcept { return std::move(connection_); }

    /* For a refusal: what to write to the socket before closing it; empty when accepted. */
    std::string http_response() const { return wsauth::http_response(why_, retry_after()); }
    std::uint16_t http_status() const noexcept { return raw_.http_status; }

    /* For a refusal, where the server accepts and then closes. */
    std::uint16_t close_code() const noexcept { return raw_.close_code; }
    std::string_view public_name() const noexcept { return detail::name(raw_.public_name); }
    std::string_view client_action() const noexcept { return detail::name(raw_.client_action); }
    std::chrono::milliseconds retry_after() const noexcept { return std::chrono::milliseconds(raw_.retry_after_ms); }

private:
    status why_;
    wsauth_handshake_result raw_{};
    wsauth::connection connection_;
};

/* One thing the server must do for one connection. */
struct event {
    connection_id connection = 0;
    event_kind kind = event_kind::close;
    status why{WSAUTH_OK};                    /* for refused and close */
    std::chrono::milliseconds retry_after{0}; /* 0 where that is not known */
    std::uint16_t close_code = 0;             /* for refused and close */
    std::string_view text;                    /* UTF-8; lives until the handler returns */
};

/* What serve() did. */
struct [[nodiscard]] served {
    status why;            /* WSAUTH_MISUSE_BUSY while another thread serves this shard */
    std::size_t count = 0; /* events handed to the handler */
    int timeout_ms = 100;  /* until the next call at the latest: -1 for ever, 0 when more waits, 100 after a failure */
};

/* What to revoke. Borrows its views until revoke() has returned; see WSAUTH_REVOKE_*. */
class revocation {
public:
    static revocation connection(connection_id id) noexcept {
        revocation what(WSAUTH_REVOKE_CONNECTION, {}, {}, 0);
        what.raw_.connection = id;
        return what;
    }
    static revocation token(std::string_view issuer, std::string_view token_id) noexcept {
        return {WSAUTH_REVOKE_TOKEN, issuer, token_id, 0};
    }
    static revocation session(std::string_view issuer, std::string_view session_id) noexcept {
        return {WSAUTH_REVOKE_SESSION, issuer, session_id, 0};
    }
    /* `issued_before_s`: seconds since 1970; 0 means now. So for the issuer. */
    static revocation subject(std::string_view issuer, std::string_view subject,
                              std::uint64_t issued_before_s = 0) noexcept {
        return {WSAUTH_REVOKE_SUBJECT, issuer, subject, issued_before_s};
    }
    static revocation issuer(std::string_view issuer, std::uint64_t issued_before_s = 0) noexcept {
        return {WSAUTH_REVOKE_ISSUER, issuer, {}, issued_before_s};
    }
    static revocation key(std::string_view issuer, std::string_view key_id) noexcept {
        return {WSAUTH_REVOKE_KEY, issuer, key_id, 0};
    }

    const wsauth_revocation &raw() const noexcept { return raw_; }

private:
    revocation(std::uint32_t kind, std::string_view issuer, std::string_view name, std::uint64_t before) noexcept {
        raw_.kind = kind;
        raw_.issuer = detail::bytes(issuer);
        raw_.name = detail::bytes(name);
        raw_.issued_before_s = before;
    }

    wsauth_revocation raw_ = WSAUTH_REVOCATION_INIT;
};

/* Whether other nodes hear of a revocation. */
enum class propagated : std::uint32_t {
    off = WSAUTH_PROPAGATED_OFF, /* there is no bus: it holds in this process */
    yes = WSAUTH_PROPAGATED_YES,
    no = WSAUTH_PROPAGATED_NO, /* they could not be reached */
};

/* What a revocation did. */
struct revoked {
    std::uint64_t closed = 0; /* connections closed in this process */
    wsauth::propagated propagated = wsauth::propagated::off;
};

/* What a lookup asks. */
enum class lookup_kind : std::uint32_t {
    none = 0,
    keys = WSAUTH_LOOKUP_KEYS,                   /* the issuer's key set is at url() */
    introspection = WSAUTH_LOOKUP_INTROSPECTION, /* about() is an opaque token */
    session = WSAUTH_LOOKUP_SESSION,             /* about() is a session id */
    discovery = WSAUTH_LOOKUP_DISCOVERY,         /* the issuer's discovery document is at url() */
    profile = WSAUTH_LOOKUP_PROFILE,             /* about() is a verified subject */
};

/* A question that the server can answer and wsauth cannot. Wipes what it holds when it is destroyed. */
class lookup {
public:
    lookup() noexcept = default;
    lookup(const wsauth_lookup &raw, std::vector<char> buffer) noexcept : raw_(raw), buffer_(std::move(buffer)) {}
    lookup(lookup &&other) noexcept
        : raw_(std::exchange(other.raw_, wsauth_lookup{})), buffer_(std::move(other.buffer_)) {}
    lookup &operator=(lookup &&other) noexcept {
        std::swap(raw_, other.raw_);
        buffer_.swap(other.buffer_);
        return *this;
    }
    lookup(const lookup &) = delete;
    lookup &operator=(const lookup &) = delete;
    ~lookup() {
        // volatile: a compiler may leave out writes that nobody reads.
        volatile char *at = buffer_.data();
        for (std::size_t left = buffer_.size(); left > 0; --left) *at++ = 0;
    }

    /* Answer with this. */
    std::uint64_t id() const noexcept { return raw_.id; }
    lookup_kind kind() const noexcept { return static_cast<lookup_kind>(raw_.kind); }
    /* An answer after this is of no use. */
    std::chrono::milliseconds timeout() const noexcept { return std::chrono::milliseconds(raw_.timeout_ms); }
    /* Empty for a session. */
    std::string_view issuer() const noexcept { return detail::view(raw_.issuer); }
    /* A token or a session id is a secret. */
    std::string_view about() const noexcept { return detail::view(raw_.about); }
    /* Where it is asked over HTTP; empty where the server knows. */
    std::string_view url() const noexcept { return detail::view(raw_.url); }

private:
    wsauth_lookup raw_{};
    std::vector<char> buffer_;
};

/* The answer to a lookup. Borrows its views until engine::answer has returned. Whoever makes one has verified it. */
class answer {
public:
    /* The key set, a JWKS. */
    static answer keys(std::string_view document) {
        answer made(WSAUTH_ANSWER_KEYS);
        made.raw_.document = detail::bytes(document);
        return made;
    }
    /* The source vouches for the credential until a moment, in milliseconds since 1970. */
    static answer vouched(std::string_view subject, std::uint64_t expires_at_ms) {
        answer made(WSAUTH_ANSWER_VOUCHED);
        made.raw_.subject = detail::bytes(subject);
        made.raw_.expires_at_ms = expires_at_ms;
        return made;
    }
    /* The complete HTTP response of lookup::url(), whatever it says; the engine judges it. Not for a redirect that was
     * followed, nor for half a body. `content_type` is empty when there is none, or more than one. */
    static answer response(unsigned status, std::string_view content_type, std::string_view body,
                           std::chrono::milliseconds retry_after = std::chrono::milliseconds(0)) {
        answer made(WSAUTH_ANSWER_RESPONSE);
        made.raw_.status = status;
        made.raw_.content_type = detail::bytes(content_type);
        made.raw_.document = detail::bytes(body);
        made.raw_.retry_after_ms = detail::milliseconds(retry_after);
        return made;
    }
    /* What the server knows of a subject: one JSON object of at most 64 KiB, as an HTTP source would answer it. */
    static answer profile(std::string_view json) {
        answer made(WSAUTH_ANSWER_PROFILE);
        made.raw_.claims = detail::bytes(json);
        return made;
    }
    /* The source says no: inactive, unknown, ended. */
    static answer inactive() { return answer(WSAUTH_ANSWER_INACTIVE); }
    /* The source did not answer, or not in a way that can be trusted. */
    static answer unavailable(std::chrono::milliseconds retry_after = std::chrono::milliseconds(0)) {
        answer made(WSAUTH_ANSWER_UNAVAILABLE);
        made.raw_.retry_after_ms = detail::milliseconds(retry_after);
        return made;
    }

    /* What else a vouching source knows. */
    answer &issued_at(std::uint64_t seconds) noexcept { return raw_.issued_at_s = seconds, *this; }
    answer &token_id(std::string_view id) noexcept { return raw_.token_id = detail::bytes(id), *this; }
    answer &session_id(std::string_view id) noexcept { return raw_.session_id = detail::bytes(id), *this; }
    answer &client_id(std::string_view id) noexcept { return raw_.client_id = detail::bytes(id), *this; }
    answer &tenant(std::string_view name) noexcept { return raw_.tenant = detail::bytes(name), *this; }
    /* At most 256, one call each. */
    answer &permission(std::string_view name) { return permissions_.push_back(detail::bytes(name)), *this; }
    /* Further claims as one JSON object of at most 64 KiB. */
    answer &claims(std::string_view json) noexcept { return raw_.claims = detail::bytes(json), *this; }

    /* For the C call; valid until this changes. */
    wsauth_answer raw() const noexcept {
        wsauth_answer whole = raw_;
        whole.permissions = permissions_.data();
        whole.permission_count = permissions_.size();
        return whole;
    }

private:
    explicit answer(std::uint32_t kind) noexcept { raw_.kind = kind; }

    wsauth_answer raw_ = WSAUTH_ANSWER_INIT;
    std::vector<wsauth_bytes> permissions_;
};

/* The engine, or an empty one, for which every call is misuse. Ends when it and its last connection are gone. */
class engine {
public:
    engine() noexcept = default;
    engine(engine &&) noexcept = default;
    engine &operator=(engine &&) noexcept = default;
    engine(const engine &) = delete;
    engine &operator=(const engine &) = delete;

    /* Makes an engine of a TOML text or file; docs/config.md describes it. On failure detail() says what is wrong.
     * Threads: any.   Cost: parses every key and compiles every rule: milliseconds. No thread, no socket. */
    static result<engine> from_toml(std::string_view toml) {
        return make([&](::wsauth_engine **out, char *problem, std::size_t capacity) {
            return ::wsauth_engine_new(detail::data(toml), toml.size(), out, problem, capacity, nullptr);
        });
    }
    static result<engine> from_file(std::string_view path) {
        return make([&](::wsauth_engine **out, char *problem, std::size_t capacity) {
            return ::wsauth_engine_new_from_file(detail::data(path), path.size(), out, problem, capacity, nullptr);
        });
    }

    /* For tests: takes time only from set_clock, and all its randomness is constant. Never serve with it. */
    static result<engine> manual(std::string_view toml, std::uint64_t wall_ms) {
        return make([&](::wsauth_engine **out, char *problem, std::size_t capacity) {
            return ::wsauth_engine_new_manual(detail::data(toml), toml.size(), wall_ms, out, problem, capacity,
                                              nullptr);
        });
    }

    /* Sets both clocks of a manual one: milliseconds since 1970, and since it was made. */
    status set_clock(std::uint64_t wall_ms, std::uint64_t mono_ms) const noexcept {
        return status(::wsauth_clock_set(raw(), wall_ms, mono_ms));
    }

    /* Whether there is one. */
    explicit operator bool() const noexcept { return engine_ != nullptr; }

    /* For what wsauth.h has and this header does not. NULL for an empty one. */
    ::wsauth_engine *raw() const noexcept { return engine_.get(); }

    /* Puts another configuration in force as a whole, or refuses it with detail() and keeps the old one. */
    result<done> reload(std::string_view toml) const {
        std::string problem(1023, '\0');
        const status why(::wsauth_engine_reload(raw(), detail::data(toml), toml.size(), &problem[0],
                                                problem.size() + 1, nullptr));
        if (why.ok()) return done{};
        problem.resize(std::strlen(problem.c_str()));
        return result<done>(why, std::move(problem));
    }

    /* Decides an upgrade request, before it is answered. Let the connection it holds live as long as the socket.
     * Ownership: nothing is kept.   Threads: any.   Cost: one signature: 0.5 microseconds (HMAC) to 50 (ES256). */
    admission handshake(const request &given) const noexcept {
        wsauth_handshake_result out{};
        const wsauth_request upgrade = given.raw();
        const status why(::wsauth_handshake(raw(), &upgrade, &out));
        return {why, out, engine_};
    }

    /* Judges a request step by step without admitting it, for operators: a JSON array, described in wsauth.h. */
    result<std::string> explain(const request &given) const {
        const wsauth_request upgrade = given.raw();
        return detail::copied(4095, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
            return ::wsauth_handshake_explain(raw(), &upgrade, buffer, capacity, needed);
        });
    }

    /* Keeps those connections that may receive this, in order. Send to these only: after a failure there are none.
     * Cost: one allocation of 16 bytes a connection, one clock reading for every 65,536 of them. */
    status keep_deliverable(std::vector<connection_id> &connections, std::string_view type,
                            const fields &given = {}) const {
        constexpr std::size_t most = 65536;
        std::size_t kept = 0;
        status why(WSAUTH_OK);
        // Once for none, too: a type that no rule knows is told.
        for (std::size_t at = 0; why.ok() && (at == 0 || at < connections.size()); at += most) {
            const std::size_t left = connections.size() - at;
            std::size_t allowed = 0;
            why = status(::wsauth_authorize_deliveries(raw(), connections.data() + at, left < most ? left : most,
                                                       detail::data(type), type.size(), given.data(), given.size(),
                                                       connections.data() + at, &allowed));
            for (std::size_t from = at; from < at + allowed; ++from) connections[kept++] = connections[from];
        }
        connections.resize(why.ok() ? kept : 0);
        return why;
    }

    /* Replaces what every live connection of a subject may do. How many there were. */
    result<std::size_t> set_subject_permissions(std::string_view issuer, std::string_view subject,
                                                const std::vector<std::string_view> &permissions) const {
        std::vector<wsauth_bytes> views;
        for (const std::string_view permission : permissions) views.push_back(detail::bytes(permission));
        std::size_t changed = 0;
        const status why(::wsauth_subject_set_permissions(raw(), detail::data(issuer), issuer.size(),
                                                          detail::data(subject), subject.size(), views.data(),
                                                          views.size(), &changed));
        return why.ok() ? result<std::size_t>(changed) : result<std::size_t>(why);
    }

    /* Puts a new token in force on every live connection of its subject, for servers that refresh over HTTP. How many
     * took it.   Cost: one signature. */
    result<std::size_t> refresh_subject(std::string_view token) const {
        std::size_t count = 0;
        const status why(::wsauth_refresh_subject(raw(), detail::data(token), token.size(), &count));
        return why.ok() ? result<std::size_t>(count) : result<std::size_t>(why);
    }

    /* Cuts off. No call that begins after this has returned is decided on the old state; serve() says whom to close. */
    result<revoked> revoke(const revocation &what) const {
        wsauth_revoked out{};
        const status why(::wsauth_revoke(raw(), &what.raw(), &out));
        if (!why.ok()) return result<revoked>(why);
        return revoked{out.closed, static_cast<propagated>(out.propagated)};
    }

    /* The event loop's descriptor for a shard: level-triggered; never read, write or close it. -1 on failure. Ask again
     * after a fork. */
    int wake_descriptor(std::uint32_t shard = 0) const noexcept {
        int descriptor = -1;
        return status(::wsauth_engine_wake_descriptor(raw(), shard, &descriptor)).ok() ? descriptor : -1;
    }

    /* Milliseconds a shard can wait for its next serve(), -1 for ever. */
    int timeout_ms(std::uint32_t shard = 0) const noexcept {
        std::int32_t timeout = 0;
        return status(::wsauth_engine_timeout(raw(), shard, &timeout)).ok() ? static_cast<int>(timeout) : 100;
    }

    /* How many shards the configuration has: connection.shards. 0 for an empty engine.   Cost: a lock a shard. */
    std::uint32_t shards() const noexcept {
        std::uint32_t count = 0;
        std::int32_t timeout = 0;
        while (count < 65536 && status(::wsauth_engine_timeout(raw(), count, &timeout)).ok()) ++count;
        return count;
    }

    /* Serves one shard: calls `handler` with each event that waits, in order, some 1,000 at most. Call it when the
     * shard's descriptor is readable and when `timeout_ms` has passed; this is the whole of an event loop's part.
     * The handler may call everything but serve() of the same shard. Let it not throw: the events taken with the one
     * that threw are lost.   Threads: one a shard at a time.   Cost: up to 1,024 deadlines; an allocation a text. */
    template <class Handler>
    served serve(Handler &&handler, std::uint32_t shard = 0) const {
        served out;
        for (int round = 0; round < 16; ++round) {
            wsauth_event events[64];
            std::size_t count = 0;
            std::int32_t timeout = 0;
            out.why = status(::wsauth_poll(raw(), shard, events, 64, sizeof *events, &count, &timeout));
            if (!out.why.ok()) return out.timeout_ms = 100, out;
            for (std::size_t at = 0; at < count; ++at) {
                const wsauth_event &raw = events[at];
                if (raw.kind < WSAUTH_EVENT_SEND || raw.kind > WSAUTH_EVENT_CLOSE) continue;
                event shown;
                shown.connection = raw.connection;
                shown.kind = static_cast<event_kind>(raw.kind);
                shown.why = status(raw.reason);
                shown.retry_after = std::chrono::milliseconds(raw.retry_after_ms);
                shown.close_code = raw.close_code;
                shown.text = detail::view(raw.text);
                handler(static_cast<const event &>(shown));
                ++out.count;
            }
            out.timeout_ms = static_cast<int>(timeout);
            if (timeout != 0) break;
        }
        return out;
    }

    /* Takes one question that waits for an answer; WSAUTH_HANDLED_EMPTY when none does. Ask after each handshake,
     * message and serve(). A configuration with keys of its own and no opaque tokens or sessions has none. */
    result<lookup> next_lookup() const {
        std::vector<char> buffer(2048);
        status why;
        for (int attempt = 0; attempt < 8; ++attempt) {
            wsauth_lookup raw_lookup{};
            std::size_t needed = 0;
            why = status(::wsauth_lookup_next(raw(), &raw_lookup, buffer.data(), buffer.size(), &needed));
            if (why.ok()) return lookup(raw_lookup, std::move(buffer));
            if (why != WSAUTH_HANDLED_BUFFER) break;
            buffer.resize(needed);
        }
        return result<lookup>(why);
    }

    /* Answers a question. The outcome for those who waited comes from serve(). */
    status reply(const lookup &question, const answer &given) const noexcept {
        const wsauth_answer raw_answer = given.raw();
        return status(::wsauth_lookup_answer(raw(), question.id(), &raw_answer));
    }

    /* Puts a key set in force for an issuer with jwks_url, before any connection asks for it. */
    status load_keys(std::string_view issuer, std::string_view document) const noexcept {
        return status(::wsauth_keys_load(raw(), detail::data(issuer), issuer.size(), detail::data(document),
                                         document.size()));
    }

    /* Calls `line` with each audit event that waits, oldest first: one JSON object without a line feed, that lives
     * until `line` returns. How many there were. What nobody fetches is dropped beyond audit.max_events. */
    template <class Line>
    std::size_t drain_audit(Line &&line) const {
        std::size_t count = 0;
        for (;;) {
            const result<std::string> taken =
                detail::copied(16383, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
                    return ::wsauth_audit_drain(raw(), buffer, capacity, needed);
                });
            if (!taken.ok()) return count;
            std::string_view rest = taken.value();
            for (std::size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
                line(rest.substr(0, end));
                ++count;
            }
        }
    }

    /* Counters and gauges in the Prometheus text format. */
    result<std::string> metrics() const {
        return detail::copied(16383, [&](char *buffer, std::size_t capacity, std::size_t *needed) {
            return ::wsauth_engine_metrics(raw(), buffer, capacity, needed);
        });
    }

private:
    explicit engine(detail::shared_engine made) noexcept : engine_(std::move(made)) {}

    template <class Make>
    static result<engine> make(Make make) {
        if (!is_compatible()) return result<engine>(status(), "the library speaks another ABI than this header");
        std::string problem(1023, '\0');
        ::wsauth_engine *made = nullptr;
        const status why(make(&made, &problem[0], problem.size() + 1));
        if (why.ok()) return engine(detail::shared_engine(made, detail::freeing()));
        problem.resize(std::strlen(problem.c_str()));
        return result<engine>(why, std::move(problem));
    }

    detail::shared_engine engine_;
};

static_assert(std::is_nothrow_move_constructible_v<connection> && !std::is_copy_constructible_v<connection>);
static_assert(std::is_nothrow_move_constructible_v<engine> && !std::is_copy_constructible_v<engine>);

}  // namespace wsauth

#endif
