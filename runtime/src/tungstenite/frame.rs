//! This file answers: what does a text or close frame of a server look like on the wire (RFC 6455 section 5.2)?
//!
//! Written here and not by a tungstenite context, so that one delivery to many peers is encoded once and any thread
//! may send. A server's frames carry no mask.

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;
const TEXT: u8 = 0x1;
const FIN: u8 = 0x80;
/// Longest reason of a close frame in bytes: 125 without the code.
const MAX_REASON_BYTES: usize = 123;

/// One whole text message.
pub(super) fn text(text: &str) -> Vec<u8> {
    encode(TEXT, text.as_bytes())
}

/// A close frame. A reason that is too long is left out rather than cut.
pub(super) fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    if reason.len() <= MAX_REASON_BYTES {
        payload.extend_from_slice(reason.as_bytes());
    }
    encode(CLOSE, &payload)
}

/// Whether these bytes begin with a close frame.
pub(super) fn is_close(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x0f == CLOSE)
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len().saturating_add(10));
    frame.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::tungstenite::protocol::frame::coding::CloseCode;
    use ::tungstenite::protocol::{Role, WebSocket};
    use ::tungstenite::{Message, protocol::CloseFrame};

    use super::*;

    fn read_back(bytes: Vec<u8>) -> Message {
        WebSocket::from_raw_socket(Cursor::new(bytes), Role::Client, None).read().unwrap()
    }

    #[test]
    fn a_client_reads_what_was_written_at_every_length_form() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let content = "x".repeat(length);
            assert_eq!(read_back(text(&content)), Message::text(content));
        }
    }

    #[test]
    fn a_close_frame_carries_code_and_reason_or_drops_what_does_not_fit() {
        let frame = |reason: &str| {
            let code = CloseCode::from(4006);
            Message::Close(Some(CloseFrame { code, reason: reason.to_owned().into() }))
        };
        assert_eq!(read_back(close(4006, "revoked")), frame("revoked"));
        assert_eq!(read_back(close(4006, &"x".repeat(123))), frame(&"x".repeat(123)));
        assert_eq!(read_back(close(4006, &"x".repeat(124))), frame(""));
        assert!(is_close(&close(1000, "")) && !is_close(&text("x")) && !is_close(b""));
    }
}
