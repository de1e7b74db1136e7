//! offhook-net
