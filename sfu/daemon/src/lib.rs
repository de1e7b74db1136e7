//! offhook-sfu
