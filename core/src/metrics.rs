//! This file answers: how often did each decision happen?
