// This file answers: what do the members of one JSON object say?
//
// Only as much as the chat needs, so that the example has no dependency beside Boost; take your JSON library instead.
// What is read here was checked by wsauth before: strict JSON in UTF-8, of bounded depth, no member twice.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace json {

/// The top-level members of an object; nested values are passed over.
class object {
public:
    /// Nothing where `text` is no object.
    static std::optional<object> parse(std::string_view text) {
        object made;
        made.rest_ = text;
        if (!made.members()) return std::nullopt;
        return made;
    }

    /// A member that is a string, unescaped.
    std::optional<std::string_view> text(std::string_view name) const { return find(name, kind::text); }

    /// A member that is a number, as it is written.
    std::optional<std::string_view> number(std::string_view name) const { return find(name, kind::number); }

private:
    enum class kind { text, number, other };
    struct member {
        std::string name;
        kind is;
        std::string value;
    };

    std::optional<std::string_view> find(std::string_view name, kind is) const {
        for (const member &one : members_)
            if (one.is == is && one.name == name) return one.value;
        return std::nullopt;
    }

    bool members() {
        if (!take('{')) return false;
        if (take('}')) return true;
        do {
            member one{{}, kind::other, {}};
            if (!take('"') || !string(one.name) || !take(':') || !value(one)) return false;
            members_.push_back(std::move(one));
        } while (take(','));
        return take('}');
    }

    bool value(member &one) {
        space();
        if (rest_.empty()) return false;
        if (take('"')) {
            one.is = kind::text;
            return string(one.value);
        }
        const char first = rest_.front();
        if (first == '{' || first == '[') return nested();
        const std::string_view scalar = rest_.substr(0, rest_.find_first_of(" \t\r\n,}"));
        if (first == '-' || (first >= '0' && first <= '9')) {
            one.is = kind::number;
            one.value = scalar;
        }
        rest_.remove_prefix(scalar.size());
        return !scalar.empty();
    }

    /// Passes over an object or array by counting brackets outside of strings.
    bool nested() {
        for (std::size_t depth = 0; !rest_.empty();) {
            const char here = rest_.front();
            rest_.remove_prefix(1);
            std::string ignored;
            if (here == '"' && !string(ignored)) return false;
            if (here == '{' || here == '[') ++depth;
            if ((here == '}' || here == ']') && --depth == 0) return true;
        }
        return false;
    }

    /// The rest of a string after its opening quote.
    bool string(std::string &out) {
        while (!rest_.empty()) {
            const std::size_t plain = rest_.find_first_of("\"\\");
            if (plain == std::string_view::npos) return false;
            out += rest_.substr(0, plain);
            const char here = rest_[plain];
            rest_.remove_prefix(plain + 1);
            if (here == '"') return true;
            if (!escape(out)) return false;
        }
        return false;
    }

    /// The rest of an escape after its backslash.
    bool escape(std::string &out) {
        if (rest_.empty()) return false;
        const char here = rest_.front();
        rest_.remove_prefix(1);
        switch (here) {
            case 'b': out += '\b'; return true;
            case 'f': out += '\f'; return true;
            case 'n': out += '\n'; return true;
            case 'r': out += '\r'; return true;
            case 't': out += '\t'; return true;
            case 'u': return character(out);
            default: out += here; return true;
        }
    }

    /// `XXXX`, or `XXXX\uXXXX` for a character beyond the first plane.
    bool character(std::string &out) {
        unsigned code = 0;
        if (!hex(code)) return false;
        if (code >= 0xd800 && code < 0xdc00) {
            unsigned low = 0;
            if (rest_.substr(0, 2) != "\\u") return false;
            rest_.remove_prefix(2);
            if (!hex(low) || low < 0xdc00 || low > 0xdfff) return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        const auto put = [&](unsigned byte) { out += static_cast<char>(byte); };
        if (code < 0x80) {
            put(code);
        } else if (code < 0x800) {
            put(0xc0 | (code >> 6)), put(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
            put(0xe0 | (code >> 12)), put(0x80 | ((code >> 6) & 0x3f)), put(0x80 | (code & 0x3f));
        } else {
            put(0xf0 | (code >> 18)), put(0x80 | ((code >> 12) & 0x3f));
            put(0x80 | ((code >> 6) & 0x3f)), put(0x80 | (code & 0x3f));
        }
        return true;
    }

    bool hex(unsigned &code) {
        if (rest_.size() < 4) return false;
        for (const char digit : rest_.substr(0, 4)) {
            const std::size_t value = std::string_view("0123456789abcdef0123456789ABCDEF").find(digit);
            if (value == std::string_view::npos) return false;
            code = code << 4 | static_cast<unsigned>(value & 15);
        }
        rest_.remove_prefix(4);
        return true;
    }

    bool take(char wanted) {
        space();
        if (rest_.empty() || rest_.front() != wanted) return false;
        rest_.remove_prefix(1);
        return true;
    }

    void space() {
        const std::size_t first = rest_.find_first_not_of(" \t\r\n");
        rest_.remove_prefix(first == std::string_view::npos ? rest_.size() : first);
    }

    std::string_view rest_;
    std::vector<member> members_;
};

/// A string with its quotes.
inline std::string quote(std::string_view text) {
    std::string out = "\"";
    for (const char here : text) {
        const auto byte = static_cast<unsigned char>(here);
        if (here == '"' || here == '\\') {
            out += '\\', out += here;
        } else if (byte < 0x20) {
            out += "\\u00", out += "0123456789abcdef"[byte >> 4], out += "0123456789abcdef"[byte & 15];
        } else {
            out += here;
        }
    }
    return out += '"';
}

}  // namespace json
