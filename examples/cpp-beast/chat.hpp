// This file answers: what does the application do with a message wsauth let through?
//
// The chat of a real-estate site. Each thread has a room of its own with the sessions it serves; only what was said is
// shared.
#pragma once

#include "json.hpp"
#include "session.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

/// What was said about which listing. Any thread.
class history {
public:
    void add(const std::string &listing, std::string said) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (listings_.size() >= max_listings && listings_.count(listing) == 0) return;
        std::deque<std::string> &all = listings_[listing];
        all.push_back(std::move(said));
        if (all.size() > max_texts) all.pop_front();
    }

    /// A JSON array.
    std::string of(const std::string &listing) const {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::string out = "[";
        if (const auto found = listings_.find(listing); found != listings_.end())
            for (const std::string &said : found->second) out += (out.size() > 1 ? "," : "") + said;
        return out + "]";
    }

private:
    static constexpr std::size_t max_texts = 50, max_listings = 10'000;

    mutable std::mutex mutex_;
    std::unordered_map<std::string, std::deque<std::string>> listings_;
};

/// The sessions of one thread, and what they listen to.
class room {
public:
    /// `publish` tells every room, this one included.
    room(const wsauth::engine &engine, history &said, std::function<void(std::shared_ptr<const delivery>)> publish)
        : engine_(engine), said_(said), publish_(std::move(publish)) {}

    void answer(session &from, std::string_view allowed) {
        const std::optional<json::object> message = json::object::parse(allowed);
        if (!message) return;
        const std::string type(message->text("type").value_or(""));
        const std::string listing(message->text("listing_id").value_or(""));
        if (listing.empty() || listing.size() > max_name) return from.reply(bad_request);
        if (type == "listing.subscribe") {
            subscribe(from, listing);
        } else if (type == "chat.send") {
            say(from, listing, message->text("text").value_or(""));
        } else if (type == "chat.history") {
            from.reply(begin("chat.history", listing) + ",\"messages\":" + said_.of(listing) + "}");
        } else if (type == "listing.update") {
            const std::string price(message->number("price").value_or("null"));
            publish("listing.changed", listing, ",\"price\":" + price + "}");
        }
        // Any other is allowed by the configuration and unknown to this program.
    }

    /// Sends to those subscribers who may receive it now. A subscription is a wish, not a right: permissions shrink and
    /// tokens expire, so every delivery is asked about.
    void deliver(const std::shared_ptr<const delivery> &what) {
        const auto found = listeners_.find(what->listing);
        if (found == listeners_.end()) return;
        std::vector<wsauth::connection_id> ids;
        for (const auto &[id, listener] : found->second) ids.push_back(id);
        if (!engine_.keep_deliverable(ids, what->type, {{"listing_id", what->listing}})) return;
        for (const wsauth::connection_id id : ids) {
            // Delivering to one may cut it off, which takes it out of the room.
            const auto listeners = listeners_.find(what->listing);
            if (listeners == listeners_.end()) return;
            if (const auto one = listeners->second.find(id); one != listeners->second.end()) one->second->deliver(what);
        }
    }

    void leave(const session &one) {
        const auto found = subscriptions_.find(one.id());
        if (found == subscriptions_.end()) return;
        for (const std::string &listing : found->second) {
            const auto listeners = listeners_.find(listing);
            listeners->second.erase(one.id());
            if (listeners->second.empty()) listeners_.erase(listeners);
        }
        subscriptions_.erase(found);
    }

private:
    static constexpr std::size_t max_name = 128, max_subscriptions = 100;
    static constexpr char bad_request[] = R"({"type":"bad_request","field":"listing_id"})";

    void subscribe(session &from, const std::string &listing) {
        std::unordered_set<std::string> &mine = subscriptions_[from.id()];
        if (mine.count(listing) == 0 && mine.size() >= max_subscriptions) return from.reply(bad_request);
        mine.insert(listing);
        listeners_[listing][from.id()] = &from;
        from.reply(begin("listing.subscribed", listing) + "}");
    }

    void say(const session &from, const std::string &listing, std::string_view text) {
        // Who speaks is what the credential says, never what the message says.
        const auto identity = json::object::parse(from.auth().identity().value());
        if (!identity) return;
        const std::string said = "\"from\":" + json::quote(identity->text("subject").value_or("")) +
                                 ",\"text\":" + json::quote(text) + "}";
        said_.add(listing, "{" + said);
        publish("chat.message", listing, "," + said);
    }

    void publish(const char *type, const std::string &listing, const std::string &rest) {
        publish_(std::make_shared<const delivery>(delivery{type, listing, begin(type, listing) + rest}));
    }

    static std::string begin(const char *type, const std::string &listing) {
        return std::string("{\"type\":\"") + type + "\",\"listing_id\":" + json::quote(listing);
    }

    const wsauth::engine &engine_;
    history &said_;
    std::function<void(std::shared_ptr<const delivery>)> publish_;
    std::unordered_map<std::string, std::unordered_map<wsauth::connection_id, session *>> listeners_;
    std::unordered_map<wsauth::connection_id, std::unordered_set<std::string>> subscriptions_;
};
