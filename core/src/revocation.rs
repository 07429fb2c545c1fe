//! This file answers: which credentials were revoked?
