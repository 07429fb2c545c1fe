//! This file answers: what happened, and who needs to know?
