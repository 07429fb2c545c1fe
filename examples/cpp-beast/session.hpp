// This file answers: how is one socket guarded?
//
// From the HTTP request to the last byte. It knows nothing of the application: what wsauth lets through goes to `host`.
// Everything here runs on the one thread of its reactor.
#pragma once

#include <wsauth.hpp>

#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>

#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using tcp = asio::ip::tcp;

/// What goes out to many: the text, and what wsauth is asked before each peer gets it.
struct delivery {
    std::string type;
    std::string listing;
    std::string text;
};

class session;

/// Who a session belongs to.
class host {
public:
    virtual void admitted(const std::shared_ptr<session> &one) = 0;
    virtual void message(session &one, std::string_view allowed) = 0;
    virtual void gone(session &one) = 0;

protected:
    ~host() = default;
};

/// One of the sockets that there may be.
class place {
public:
    explicit place(std::atomic<int> &taken) : taken_(taken) { ++taken_; }
    place(const place &) = delete;
    place &operator=(const place &) = delete;
    ~place() { --taken_; }

private:
    std::atomic<int> &taken_;
};

class session : public std::enable_shared_from_this<session> {
    /// A handler that keeps this session alive. What it throws - out of memory - ends this session and no other.
    template <class Handler>
    auto then(Handler handler) {
        return [self = shared_from_this(), handler = std::move(handler)](auto... outcome) {
            try {
                handler(*self, outcome...);
            } catch (const std::exception &) {
                self->drop();
            }
        };
    }

public:
    session(tcp::socket socket, const wsauth::engine &engine, std::uint32_t shard, host &host,
            std::atomic<int> &sockets)
        : place_(sockets), engine_(engine), shard_(shard), host_(host), ws_(std::move(socket)),
          patience_(ws_.get_executor()), stall_(ws_.get_executor()) {}

    wsauth::connection_id id() const { return id_; }
    const wsauth::connection &auth() const { return auth_; }

    /// Reads the request.
    void start() {
        give(request_time);
        parser_.header_limit(max_request);
        http::async_read_header(ws_.next_layer(), input_, parser_,
                                then([](session &self, auto error, std::size_t) { self.decide(error); }));
    }

    /// Does what wsauth says.
    void take(const wsauth::event &event) {
        switch (event.kind) {
            case wsauth::event_kind::send: send({std::make_shared<std::string>(event.text), nullptr}); break;
            case wsauth::event_kind::ready: ready(); break;
            case wsauth::event_kind::refused: refuse(wsauth::http_response(event.why, event.retry_after)); break;
            case wsauth::event_kind::permissions: break;  // each delivery is asked about anyway
            case wsauth::event_kind::close:
                if (phase_ == phase::asking) refuse(wsauth::http_response(event.why, event.retry_after));
                else end(event.close_code, event.text);
                break;
        }
    }

    /// Answers the peer.
    void reply(std::string text) { send({std::make_shared<std::string>(std::move(text)), nullptr}); }

    /// Sends what wsauth has just allowed.
    void deliver(std::shared_ptr<const delivery> what) {
        send({std::shared_ptr<const std::string>(what, &what->text), what});
    }

    /// Closes with a code, after what is waiting.
    void end(std::uint16_t code, std::string_view reason) {
        if (ending_ || phase_ == phase::gone) return;
        ending_.emplace(static_cast<websocket::close_code>(code), beast::string_view(reason.data(), reason.size()));
        give(close_time);
        if (phase_ == phase::open && !writing_) write();
    }

    /// Cuts the socket off.
    void drop() {
        if (std::exchange(phase_, phase::gone) == phase::gone) return;
        patience_.cancel();
        stall_.cancel();
        beast::error_code ignored;
        ws_.next_layer().close(ignored);
        host_.gone(*this);
        auth_.close();
    }

private:
    // The same bounds as in wsauth's other servers.
    static constexpr std::chrono::seconds request_time{10}, stall_time{5}, close_time{2}, ping_time{40};
    static constexpr std::size_t max_waiting = 1 << 20;
    // Beast throws where one header field has 64 KiB; wsauth takes less.
    static constexpr std::size_t max_request = 60 << 10;
    // Above message.max_bytes, so that wsauth is the one to refuse.
    static constexpr std::size_t max_message = 128 << 10;

    enum class phase {
        asking,     // the request, and who it is
        refusing,   // an answer over HTTP goes out
        upgrading,  // the 101 goes out
        open,
        gone,
    };

    struct outgoing {
        std::shared_ptr<const std::string> text;
        std::shared_ptr<const delivery> what;  // empty for answers and for what wsauth says
        bool waited = false;
    };

    void decide(beast::error_code error) {
        if (phase_ != phase::asking) return;
        if (const wsauth::status broken = judge(error); !broken) return refuse(wsauth::http_response(broken));
        const tcp::endpoint peer = error ? tcp::endpoint() : ws_.next_layer().remote_endpoint(error);
        if (error) return drop();

        const auto view = [](beast::string_view text) { return std::string_view(text.data(), text.size()); };
        const auto &head = parser_.get();
        wsauth::request request(view(head.method_string()), view(head.target()));
        for (const auto &line : head) request.header(view(line.name_string()), view(line.value()));
        wsauth::admission admission = engine_.handshake(request.peer_sockaddr(peer.data(), peer.size()).shard(shard_));
        if (!admission) return refuse(admission.http_response());
        auth_ = admission.take();
        id_ = auth_.id();
        subprotocol_ = admission.subprotocol();
        host_.admitted(shared_from_this());
        // Otherwise its ready or refused comes: wsauth bounds how long that takes.
        if (admission.progress() == wsauth::progress::authenticating) patience_.cancel();
        else upgrade();
    }

    /// What is wrong with the bytes that came instead of a request. A socket that is gone is nobody to answer.
    wsauth::status judge(beast::error_code error) const {
        const wsauth::status fine(WSAUTH_OK), malformed(WSAUTH_REQUEST_MALFORMED), large(WSAUTH_REQUEST_TOO_LARGE);
        // A peer that sends frames before it was answered does not speak WebSocket.
        if (!error) return input_.size() == 0 ? fine : malformed;
        if (error == http::error::header_limit || error == http::error::buffer_overflow) return large;
        if (error == http::error::end_of_stream || error == http::error::partial_message) return fine;
        return error.category() == http::make_error_code(http::error::bad_method).category() ? malformed : fine;
    }

    void refuse(std::string response) {
        if (phase_ != phase::asking) return end(1008, "");
        phase_ = phase::refusing;
        give(close_time);
        auto text = std::make_shared<std::string>(std::move(response));
        asio::async_write(ws_.next_layer(), asio::buffer(*text), then([text](session &self, auto error, std::size_t) {
            if (error || self.phase_ == phase::gone) return self.drop();
            self.ws_.next_layer().shutdown(tcp::socket::shutdown_send, error);
            self.linger();
        }));
    }

    /// Lets the peer close first: a socket closed with bytes unread takes the answer back.
    void linger() {
        input_.clear();
        ws_.next_layer().async_read_some(input_.prepare(4096), then([](session &self, auto error, std::size_t) {
            if (error || self.phase_ == phase::gone) return self.drop();
            self.linger();
        }));
    }

    void upgrade() {
        phase_ = phase::upgrading;
        give(request_time);
        websocket::stream_base::timeout timeout{};
        timeout.handshake_timeout = request_time;
        timeout.idle_timeout = ping_time;  // a ping at half of it
        timeout.keep_alive_pings = true;
        ws_.set_option(timeout);
        ws_.read_message_max(max_message);
        ws_.auto_fragment(false);
        ws_.text(true);
        ws_.control_callback([this](websocket::frame_type kind, beast::string_view) {
            if (kind == websocket::frame_type::pong) auth_.touch();
        });
        if (!subprotocol_.empty())
            ws_.set_option(websocket::stream_base::decorator([this](websocket::response_type &response) {
                response.set(http::field::sec_websocket_protocol, subprotocol_);
            }));
        ws_.async_accept(parser_.get(), then([](session &self, auto error) {
            if (error || self.phase_ == phase::gone) return self.drop();
            self.phase_ = phase::open;
            if (!self.ending_) self.patience_.cancel();
            self.write();
            if (!self.ending_) self.read();
        }));
    }

    /// Authenticated after a question: the upgrade was held back, or a message was.
    void ready() {
        if (phase_ == phase::asking) upgrade();
        else if (std::exchange(holding_, false)) offer();
    }

    void read() {
        ws_.async_read(input_, then([](session &self, auto error, std::size_t) {
            // With a close on its way, the close reads on.
            if (error && self.ending_ && error == asio::error::operation_aborted) return;
            if (error || self.phase_ == phase::gone) return self.drop();
            self.offer();
        }));
    }

    /// Asks wsauth about one message.
    void offer() {
        const asio::const_buffer bytes = input_.data();
        const std::string_view message(static_cast<const char *>(bytes.data()), bytes.size());
        const wsauth::verdict verdict = ws_.got_text() ? auth_.text(message) : auth_.binary(message);
        switch (verdict.action()) {
            case wsauth::action::deliver: host_.message(*this, verdict.payload()); break;
            case wsauth::action::hold: holding_ = true; return;  // no reading until it is known who this is
            case wsauth::action::close: return;                  // nor ever again; the event says how to close
            case wsauth::action::reply:
            case wsauth::action::drop: break;
        }
        input_.clear();
        if (phase_ == phase::open && !ending_) read();
    }

    void send(outgoing one) {
        if (ending_ || phase_ == phase::gone || phase_ == phase::refusing) return;
        // A peer that takes nothing must not make this server grow.
        if (waiting_ > max_waiting) return drop();
        one.waited = writing_ || phase_ != phase::open;
        waiting_ += one.text->size();
        queue_.push_back(std::move(one));
        if (phase_ == phase::open && !writing_) write();
    }

    /// Writes what is next; when nothing is, and the connection ends, closes it.
    void write() {
        // Permissions may have gone while it waited.
        while (!queue_.empty() && queue_.front().waited && !is_still_allowed(queue_.front())) pop();
        if (queue_.empty()) {
            if (ending_) close();
            return;
        }
        const std::shared_ptr<const std::string> text = queue_.front().text;
        pop();
        writing_ = true;
        stall_.expires_after(stall_time);
        stall_.async_wait(then([](session &self, auto error) {
            if (!error) self.drop();
        }));
        ws_.async_write(asio::buffer(*text), then([text](session &self, auto error, std::size_t) {
            self.writing_ = false;
            self.stall_.cancel();
            if (error || self.phase_ == phase::gone) return self.drop();
            self.write();
        }));
    }

    bool is_still_allowed(const outgoing &one) const {
        return !one.what || auth_.authorize_delivery(one.what->type, {{"listing_id", one.what->listing}});
    }

    void pop() {
        waiting_ -= queue_.front().text->size();
        queue_.pop_front();
    }

    void close() {
        if (std::exchange(closing_, true)) return;
        ws_.async_close(*ending_, then([](session &self, auto) { self.drop(); }));
    }

    /// Cuts off what has not come on after a while.
    void give(std::chrono::seconds time) {
        patience_.expires_after(time);
        patience_.async_wait(then([](session &self, auto error) {
            if (!error) self.drop();
        }));
    }

    place place_;
    const wsauth::engine &engine_;
    const std::uint32_t shard_;
    host &host_;
    websocket::stream<tcp::socket> ws_;
    asio::steady_timer patience_, stall_;
    beast::flat_buffer input_{max_request + max_message};
    http::request_parser<http::empty_body> parser_;
    wsauth::connection auth_;
    wsauth::connection_id id_ = 0;
    std::string subprotocol_;
    phase phase_ = phase::asking;
    std::deque<outgoing> queue_;
    std::size_t waiting_ = 0;
    std::optional<websocket::close_reason> ending_;
    bool writing_ = false, closing_ = false, holding_ = false;
};
