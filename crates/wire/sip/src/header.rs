//! Header names: full, compact and unknown ones (RFC 3261 §7.3.3 and §20).

use crate::scan::unfold;
use std::borrow::Cow;
use std::fmt;

macro_rules! names {
    ($($variant:ident $text:literal $($compact:literal)?,)*) => {
        /// A header name that this stack knows; [`Name::Other`] for all the rest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name { $($variant,)* Other }

        impl Name {
            /// The canonical spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* Self::Other => "unknown" }
            }

            /// Names are compared without case; a single letter is a compact form.
            pub fn parse(text: &str) -> Self {
                $($(if text.eq_ignore_ascii_case($compact) { return Self::$variant; })?)*
                $(if text.eq_ignore_ascii_case($text) { return Self::$variant; })*
                Self::Other
            }
        }
    };
}

names! {
    Via "Via" "v",
    From "From" "f",
    To "To" "t",
    CallId "Call-ID" "i",
    CSeq "CSeq",
    MaxForwards "Max-Forwards",
    Contact "Contact" "m",
    ContentLength "Content-Length" "l",
    ContentType "Content-Type" "c",
    ContentEncoding "Content-Encoding" "e",
    ContentDisposition "Content-Disposition",
    Route "Route",
    RecordRoute "Record-Route",
    Path "Path",
    Allow "Allow",
    Accept "Accept",
    AcceptEncoding "Accept-Encoding",
    AcceptLanguage "Accept-Language",
    Supported "Supported" "k",
    Require "Require",
    ProxyRequire "Proxy-Require",
    Unsupported "Unsupported",
    Expires "Expires",
    MinExpires "Min-Expires",
    SessionExpires "Session-Expires" "x",
    MinSe "Min-SE",
    WwwAuthenticate "WWW-Authenticate",
    ProxyAuthenticate "Proxy-Authenticate",
    Authorization "Authorization",
    ProxyAuthorization "Proxy-Authorization",
    AuthenticationInfo "Authentication-Info",
    Reason "Reason",
    RetryAfter "Retry-After",
    Warning "Warning",
    Date "Date",
    Timestamp "Timestamp",
    Subject "Subject" "s",
    UserAgent "User-Agent",
    Server "Server",
    PAssertedIdentity "P-Asserted-Identity",
    PPreferredIdentity "P-Preferred-Identity",
    Privacy "Privacy",
    Diversion "Diversion",
    RSeq "RSeq",
    RAck "RAck",
    ReferTo "Refer-To" "r",
    ReferredBy "Referred-By" "b",
    Replaces "Replaces",
    Event "Event" "o",
    AllowEvents "Allow-Events" "u",
    Identity "Identity" "y",
}

impl Name {
    /// Headers that a message may carry only once and that hold one value.
    pub(crate) const fn is_single(self) -> bool {
        use Name::{
            CSeq, CallId, ContentDisposition, ContentLength, ContentType, Date, Event, Expires, From, MaxForwards,
            MinExpires, MinSe, RAck, RSeq, ReferTo, ReferredBy, Replaces, SessionExpires, Subject, Timestamp, To,
        };
        matches!(
            self,
            CSeq | CallId
                | ContentDisposition
                | ContentLength
                | ContentType
                | Date
                | Event
                | Expires
                | From
                | MaxForwards
                | MinExpires
                | MinSe
                | RAck
                | RSeq
                | ReferTo
                | ReferredBy
                | Replaces
                | SessionExpires
                | Subject
                | Timestamp
                | To
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One header line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub name: Name,
    /// As written, for names we do not know.
    pub written: &'a str,
    /// Trimmed; may still hold folds, see [`Self::text`].
    pub raw: &'a str,
}

impl<'a> Header<'a> {
    /// The canonical name, or what was written.
    pub const fn name_str(&self) -> &'a str {
        match self.name {
            Name::Other => self.written,
            name => name.as_str(),
        }
    }

    /// The value with folds replaced by blanks.
    pub fn text(&self) -> Cow<'a, str> {
        unfold(self.raw)
    }
}
