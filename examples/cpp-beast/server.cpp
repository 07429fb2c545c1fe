// This file answers: what does a complete guarded server in C++ look like?
//
// The chat of a real-estate site on Boost.Beast: a thread for each of the engine's shards (connection.shards), sockets
// dealt out among them, deliveries checked one by one. Every decision about who may do what is wsauth's; these files
// only keep sockets (session.hpp, reactor.hpp) and the application (chat.hpp).
//
//   apt-get install libboost-dev
//   g++ -std=c++17 -O2 server.cpp -o server $(pkg-config --cflags --libs wsauth) -pthread
//
// Arguments: the configuration file and a port (0 takes any). It prints `listening 127.0.0.1:PORT`, then one line of
// JSON per audit event. Lines on standard input: `revoke ISSUER SUBJECT` and `quit`.

#include "reactor.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

/// Sockets at one time, upgrades included.
constexpr int max_sockets = 4096;

/// Deals sockets out, in turn.
class listener {
public:
    listener(std::uint16_t port, std::vector<std::unique_ptr<reactor>> &reactors, const std::atomic<int> &sockets)
        : reactors_(reactors), sockets_(sockets), pause_(reactors[0]->io()),
          acceptor_(reactors[0]->io(), tcp::endpoint(asio::ip::make_address("127.0.0.1"), port)) {}

    std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

    void accept() {
        reactor &next = *reactors_[turn_++ % reactors_.size()];
        acceptor_.async_accept(next.io(), [this, &next](auto error, tcp::socket socket) {
            if (error == asio::error::operation_aborted) return;
            if (error) return rest();
            if (sockets_ < max_sockets) next.adopt(std::move(socket));
            accept();
        });
    }

private:
    /// Out of descriptors: lets some connections end.
    void rest() {
        pause_.expires_after(std::chrono::milliseconds(50));
        pause_.async_wait([this](auto error) {
            if (!error) accept();
        });
    }

    std::vector<std::unique_ptr<reactor>> &reactors_;
    const std::atomic<int> &sockets_;
    asio::steady_timer pause_;
    tcp::acceptor acceptor_;
    std::size_t turn_ = 0;
};

/// Stops all threads before the first of what they share goes.
struct stopping {
    const std::vector<std::unique_ptr<reactor>> &reactors;
    ~stopping() {
        for (const auto &each : reactors) each->stop();
    }
};

void print_audit(const wsauth::engine &engine) {
    const std::size_t printed = engine.drain_audit([](std::string_view line) {
        std::fwrite(line.data(), 1, line.size(), stdout);
        std::fputc('\n', stdout);
    });
    if (printed > 0) std::fflush(stdout);
}

/// The operator's lines. End of input leaves the server running.
void obey(const wsauth::engine &engine) {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command, issuer, subject, more;
        words >> command >> issuer >> subject >> more;
        if (command == "quit" && issuer.empty()) return;
        if (command == "revoke" && !subject.empty() && more.empty() &&
            engine.revoke(wsauth::revocation::subject(issuer, subject)))
            continue;
        std::cerr << "commands: revoke ISSUER SUBJECT, quit\n";
    }
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

int serve(const wsauth::engine &engine, std::uint16_t port) {
    std::atomic<int> sockets{0};
    history said;
    std::vector<std::unique_ptr<reactor>> reactors;
    for (std::uint32_t shard = 0; shard < engine.shards(); ++shard)
        reactors.push_back(std::make_unique<reactor>(engine, shard, said, reactors, sockets));
    listener listener(port, reactors, sockets);
    const stopping stopping{reactors};
    listener.accept();
    for (const auto &each : reactors)
        if (!each->start()) return std::fprintf(stderr, "out of descriptors\n"), 1;
    std::printf("listening 127.0.0.1:%u\n", static_cast<unsigned>(listener.port()));
    std::fflush(stdout);

    std::atomic<bool> over{false};
    std::thread audit([&] {
        while (!over) {
            print_audit(engine);
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
    });
    obey(engine);
    for (const auto &each : reactors) each->close_all();
    for (int tries = 0; sockets > 0 && tries < 100; ++tries) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    over = true;
    audit.join();
    print_audit(engine);
    return 0;
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 3) return std::fprintf(stderr, "usage: server CONFIG PORT\n"), 2;
    // A reader of the audit that is gone must not end the server.
    std::signal(SIGPIPE, SIG_IGN);
    const auto engine = wsauth::engine::from_file(arguments[1]);
    if (!engine) return std::fprintf(stderr, "%s: %s\n", arguments[1], engine.detail().c_str()), 1;
    try {
        return serve(*engine, static_cast<std::uint16_t>(std::strtoul(arguments[2], nullptr, 10)));
    } catch (const std::exception &error) {
        return std::fprintf(stderr, "%s\n", error.what()), 1;
    }
}
