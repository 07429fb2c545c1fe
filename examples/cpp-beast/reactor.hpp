// This file answers: how does a thread with an event loop serve its shard of wsauth?
//
// One thread, one io_context, one shard: what wsauth says about a connection comes to the thread that has its socket,
// and sessions need no lock.
#pragma once

#include "chat.hpp"
#include "session.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

class reactor final : public host {
public:
    reactor(const wsauth::engine &engine, std::uint32_t shard, history &said,
            const std::vector<std::unique_ptr<reactor>> &all, std::atomic<int> &sockets)
        : engine_(engine), shard_(shard), all_(all), sockets_(sockets), work_(io_.get_executor()), wake_(io_),
          deadline_(io_), room_(engine, said, [this](auto what) { publish(what); }) {}

    /// The engine closes its descriptors itself.
    ~reactor() {
        stop();
        wake_.release();
    }

    asio::io_context &io() { return io_; }

    /// Begins to serve; `false` where the process is out of descriptors.
    bool start() {
        const int descriptor = engine_.wake_descriptor(shard_);
        if (descriptor < 0) return false;
        wake_.assign(descriptor);
        serve();
        watch();
        thread_ = std::thread([this] { run(); });
        return true;
    }

    /// From any thread: takes a new socket.
    void adopt(tcp::socket socket) {
        auto one = std::make_shared<session>(std::move(socket), engine_, shard_, *this, sockets_);
        asio::post(io_, [one = std::move(one)] { one->start(); });
    }

    /// From any thread: says goodbye to everyone.
    void close_all() {
        asio::post(io_, [this] {
            const auto sessions = sessions_;
            for (const auto &[id, one] : sessions) one->end(1001, "shutdown");
        });
    }

    void stop() {
        io_.stop();
        if (thread_.joinable()) thread_.join();
    }

    void admitted(const std::shared_ptr<session> &one) override { sessions_[one->id()] = one; }
    void message(session &one, std::string_view allowed) override { room_.answer(one, allowed); }
    void gone(session &one) override {
        if (one.id() == 0) return;
        room_.leave(one);
        sessions_.erase(one.id());
    }

private:
    /// Deliveries that other threads may have waiting here; more are not sent.
    static constexpr int max_posted = 10'000;

    void run() {
        for (;;) {
            try {
                io_.run();
                return;
            } catch (const std::exception &error) {
                // Out of memory for one socket: the others go on.
                std::fprintf(stderr, "a handler failed: %s\n", error.what());
            }
        }
    }

    void watch() {
        wake_.async_wait(asio::posix::stream_descriptor::wait_read, [this](auto error) {
            if (error) return;
            serve();
            watch();
        });
    }

    /// Does what wsauth says, and comes back when its next deadline is due.
    void serve() {
        const wsauth::served served = engine_.serve([this](const wsauth::event &event) { take(event); }, shard_);
        answer_questions();
        deadline_.cancel();
        if (served.timeout_ms < 0) return;
        deadline_.expires_after(std::chrono::milliseconds(served.timeout_ms));
        deadline_.async_wait([this](auto error) {
            if (!error) serve();
        });
    }

    void take(const wsauth::event &event) {
        const auto found = sessions_.find(event.connection);
        if (found == sessions_.end()) return;
        const std::shared_ptr<session> one = found->second;
        try {
            one->take(event);
        } catch (const std::exception &) {
            one->drop();
        }
    }

    /// Keys from a URL, opaque tokens and cookie sessions are questions that only a server with an answer should be
    /// configured for. This one has none, and says so at once.
    void answer_questions() {
        while (const auto question = engine_.next_lookup())
            // One that is late has been given up already.
            if (!engine_.reply(*question, wsauth::answer::unavailable())) continue;
    }

    void publish(const std::shared_ptr<const delivery> &what) {
        for (const std::unique_ptr<reactor> &each : all_) {
            reactor &other = *each;
            if (&other == this) {
                room_.deliver(what);
            } else if (++other.posted_ <= max_posted) {
                asio::post(other.io_, [&other, what] {
                    --other.posted_;
                    other.room_.deliver(what);
                });
            } else {
                --other.posted_;
            }
        }
    }

    const wsauth::engine &engine_;
    const std::uint32_t shard_;
    const std::vector<std::unique_ptr<reactor>> &all_;
    std::atomic<int> &sockets_;
    std::atomic<int> posted_{0};
    // Sessions go before the room, the room before the loop.
    asio::io_context io_{1};
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    asio::posix::stream_descriptor wake_;
    asio::steady_timer deadline_;
    room room_;
    std::unordered_map<wsauth::connection_id, std::shared_ptr<session>> sessions_;
    std::thread thread_;
};
