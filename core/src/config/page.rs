//! This file answers: does `docs/config.md` tell the truth?
