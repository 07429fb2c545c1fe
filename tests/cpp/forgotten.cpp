// This file answers: which mistakes does the compiler find?
//
// Compiles as it is. With MISTAKE=1 and so on it must not, under -Werror; run.sh tries each.

#include "wsauth.hpp"

#include <string_view>
#include <utility>
#include <vector>

#ifndef MISTAKE
#define MISTAKE 0
#endif

void mistakes(const wsauth::engine &engine, const wsauth::request &request, wsauth::connection &connection,
              std::vector<wsauth::connection_id> &room) {
    const std::string_view message = "{}";
    if (!engine || !connection.text(message)) return;
#if MISTAKE == 1
    engine.handshake(request);
#elif MISTAKE == 2
    connection.text(message);
#elif MISTAKE == 3
    connection.binary(message);
#elif MISTAKE == 4
    connection.authorize("chat.send");
#elif MISTAKE == 5
    connection.authorize_delivery("listing.changed", {{"listing_id", "42"}});
#elif MISTAKE == 6
    engine.keep_deliverable(room, "listing.changed");
#elif MISTAKE == 7
    engine.revoke(wsauth::revocation::connection(connection.id()));
#elif MISTAKE == 8
    engine.reload("");
#elif MISTAKE == 9
    wsauth::connection copy = connection;
#elif MISTAKE == 10
    const bool may = connection.text(message);
    (void)may;
#elif MISTAKE == 11
    // Whether there is a connection is not whether it may do something.
    if (connection == true) room.clear();
#elif MISTAKE == 12
    const int number = connection.text(message).why();
    (void)number;
#elif MISTAKE == 13
    switch (connection.text(message).action()) {
        case wsauth::action::deliver: break;
        case wsauth::action::close: break;
    }
#else
    if (const wsauth::admission admission = engine.handshake(request); !admission) room.clear();
#endif
}
