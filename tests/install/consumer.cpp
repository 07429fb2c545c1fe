// Links an installed libwsauth through wsauth.hpp and has it decide: consumer
#include <cstdlib>
#include <iostream>
#include <wsauth.hpp>

int main()
{
    ::setenv("CONSUMER_SECRET", "a secret of no less than 32 bytes", 1);
    auto engine = wsauth::engine::from_toml(R"([[issuer]]
issuer = "https://id.example.com"
audience = ["wss://live.example.com"]
algorithms = ["HS256"]
keys = { secrets = [{ env = "CONSUMER_SECRET" }] }
[handshake]
origins = ["https://app.example.com"]
credentials = ["authorization"]
trusted_proxies = []
)");
    if (!engine) {
        std::cerr << engine.detail() << "\n";
        return 1;
    }
    wsauth::request request("GET", "/live");
    request.header("Host", "live.example.com")
        .header("Upgrade", "websocket")
        .header("Connection", "Upgrade")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Origin", "https://app.example.com")
        .peer("192.0.2.1");
    auto admission = engine.value().handshake(request);
    std::cout << "wsauth " << wsauth_version() << ": " << admission.why().name() << "\n";
    return !admission && admission.http_status() == 401 ? 0 : 1;
}
