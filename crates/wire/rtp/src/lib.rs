//! offhook-wire-rtp
