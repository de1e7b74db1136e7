//! offhook-tests
