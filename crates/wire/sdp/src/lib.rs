//! offhook-wire-sdp
