//! The cases of RFC 4475 by their names, each composed here from the property that the RFC describes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sip::*;

/// Lines of a message with CRLF ends.
fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

/// A plain request whose request line and lines can be replaced.
fn request(method: &str, extra: &str) -> String {
    format!(
        "{method} sip:user@example.com SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bKplain\n\
         From: <sip:caller@example.net>;tag=88\n\
         To: <sip:user@example.com>\n\
         Call-ID: plain.1@192.0.2.5\n\
         CSeq: 5 {method}\n\
         Max-Forwards: 70\n{extra}\n"
    )
}

fn accepts(bytes: &[u8]) -> Message<'_> {
    Message::parse(bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

fn refuses(text: &str) -> ParseError {
    Message::parse(&crlf(text)).expect_err(text)
}

mod valid {
    use super::*;

    #[test]
    fn wsinv_white_space_and_folds_wherever_they_may_stand() {
        let bytes = crlf(
            "INVITE sip:bob@[2001:db8::7];unknownparam SIP/2.0\n\
             tO :\n sip:bob@example.org ;   tag    = 123abc\n\
             fRoM   : \"A. Caller \\\\\\\"\"       <sip:alice@example.org>\n  ;\n  tag = 98asjd8\n\
             MaX-fOrWaRdS: 0068\n\
             Call-ID: white.space@192.0.2.1\n\
             Content-Length   : 7\n\
             cseq: 0009\n  INVITE\n\
             Via  : SIP  /   2.0\n /UDP\n    192.0.2.2 : 5070;branch=390skdjuw\n\
             s :\n\
             NewFangledHeader:   something new\n continued something new\n\
             UnknownHeaderWithUnusualValue: ;;,,;;,;\n\
             Content-Type: application/sdp\n\
             Route:\n <sip:services.example.org;lr;unknownwith=value;unknown-no-value>\n\
             v:  SIP  / 2.0  / TCP     host.example.org   ;\n  branch  =   z9hG4bK9ikj8  ,\n \
             SIP  /    2.0   / UDP  192.168.255.111   ; branch=\n z9hG4bK30239\n\
             m:\"Quoted \\\"\\\"\" <sip:alice@example.org> ; newparam =\n      newvalue ;\n  secondparam ; q = 0.33\n\n\
             v=0\n12",
        );
        let message = accepts(&bytes);
        assert_eq!(message.to().tag(), Some("123abc"));
        assert_eq!(message.from().display().unwrap(), "A. Caller \\\"");
        assert_eq!((message.max_forwards(), message.cseq().number), (Some(68), 9));
        let branches: Vec<_> = message.vias().iter().map(|via| via.branch().unwrap()).collect();
        assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
        assert_eq!((message.via().port, message.via().magic_branch()), (Some(5070), None));
        assert_eq!(message.contacts()[0].params.text("q"), Some("0.33"));
        assert!(message.routes()[0].uri.sip().unwrap().is_loose_router());
        assert_eq!(message.sdp().unwrap(), b"v=0\r\n12");
        let new = message.headers().iter().find(|header| header.written == "NewFangledHeader").unwrap();
        assert_eq!(new.text(), "something new continued something new");
    }

    #[test]
    fn intmeth_every_unreserved_character_in_its_place() {
        let method = "!strange-Method0123456789_*+`.%really'~";
        let mut bytes = crlf(&format!(
            "{method} sip:1_odd.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(no)@example.com SIP/2.0\n\
             Via: SIP/2.0/TCP h1.example.com;branch=z9hG4bK-.!%66*_+`'~\n\
             To: \"BEL:\\@1 NUL:\\@2 DEL:\\@3\" <sip:1_odd.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\n\
             From: tok1~` tok2'+_ tok3*%!.- <sip:plain@example.com>;fromParam''~+*_!.-%=\"работа\";tag=_tok~1'+`*%!-.\n\
             Call-ID: int.word%ZK-!.*_+'@word`~)(><:\\/\"][?}}{{\n\
             CSeq: 139122385 {method}\n\
             Max-Forwards: 255\n\
             extHeader-!.%*+_`'~:\u{20ac}大停電\n\
             Content-Length: 0\n\n"
        ));
        for (mark, control) in [(b"\\@1", 7), (b"\\@2", 0), (b"\\@3", 0x7f)] {
            let at = bytes.windows(3).position(|three| three == mark).unwrap();
            bytes.splice(at + 1..at + 3, [control]);
        }
        let message = accepts(&bytes);
        assert_eq!(message.method(), &Method::Other(method.to_owned()));
        assert_eq!(message.to().display().unwrap(), "BEL:\x07 NUL:\0 DEL:\x7f");
        assert_eq!(message.from().params.unquoted("fromParam''~+*_!.-%").unwrap(), "работа");
        assert_eq!(message.call_id(), "int.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
        assert_eq!(message.max_forwards(), Some(255));
    }

    #[test]
    fn esc01_escapes_in_uris_are_kept_and_decoded_only_on_demand() {
        let text = request("INVITE", "Contact: <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>\n");
        let text = text.replace("sip:user@example.com SIP", "sip:sips%3Auser%40example.com@example.net SIP");
        let bytes = crlf(&text.replace("<sip:caller@", "<sip:I%20have%20spaces@"));
        let message = accepts(&bytes);
        let uri = message.request_uri().unwrap().sip().unwrap();
        assert_eq!((uri.user(), uri.host.to_string()), (Some("sips%3Auser%40example.com"), "example.net".into()));
        assert_eq!(uri.number().unwrap(), "sips:user@example.com");
        assert_eq!(message.from().uri.number().unwrap(), "I have spaces");
        assert!(!message.contacts()[0].uri.sip().unwrap().is_loose_router(), "an escaped lr is a different name");
    }

    #[test]
    fn escnull_an_escaped_nul_is_a_user_like_any_other() {
        let bytes =
            crlf(&request("REGISTER", "Contact: <sip:%00@h.example.com>\nContact: <sip:%00%00@h.example.com>\nL:0\n"));
        let message = accepts(&bytes);
        assert_eq!(message.contacts().len(), 2);
        assert_eq!(message.contacts()[1].uri.number().unwrap(), "\0\0");
    }

    #[test]
    fn esc02_a_percent_sign_where_nothing_is_escaped() {
        let text = request("RE%47IST%45R", "c%6Fntact: <sip:alias@h1.example.com>\n");
        let bytes = crlf(&text.replace("To: <", "To: \"%Z%45\" <"));
        let message = accepts(&bytes);
        assert_eq!(message.method(), &Method::Other("RE%47IST%45R".into()));
        assert_eq!(message.to().display().unwrap(), "%Z%45");
        assert!(message.contacts().is_empty());
    }

    #[test]
    fn lwsdisp_no_blank_between_name_and_bracket() {
        let bytes = crlf(&request("OPTIONS", "").replace("From: <", "From: caller<"));
        assert_eq!(accepts(&bytes).from().display().unwrap(), "caller");
    }

    #[test]
    fn longreq_long_values_and_many_vias() {
        let long = "x".repeat(300);
        let vias: String =
            (0..33).map(|i| format!("V: SIP/2.0/TCP sip{i}.example.com;received=10.0.0.{i}\n")).collect();
        let text = request(
            "INVITE",
            &format!(
                "{vias}Contact: <sip:{long}:{long}@host.{}.example.com;long={long}>\nunknown-{long}: {long}\n",
                "y".repeat(63)
            ),
        );
        let bytes = crlf(&text.replace("tag=88", &format!("tag={long};{long}={long}")));
        let message = accepts(&bytes);
        assert_eq!(message.vias().len(), 34);
        assert_eq!(message.from().tag().unwrap().len(), 300);
    }

    #[test]
    fn dblreq_what_follows_the_body_is_ignored() {
        let bytes = crlf(&(request("REGISTER", "Content-Length: 0\n") + &request("INVITE", "")));
        let message = accepts(&bytes);
        assert_eq!((message.method(), message.body().len()), (&Method::Register, 0));
    }

    #[test]
    fn semiuri_a_semicolon_belongs_to_the_user_part() {
        let uri = "sip:user;par=u%40example.net@example.com";
        let bytes = crlf(&request("OPTIONS", "").replace("sip:user@example.com SIP", &format!("{uri} SIP")));
        let message = accepts(&bytes);
        let uri = message.request_uri().unwrap().sip().unwrap();
        assert_eq!(uri.user(), Some("user;par=u%40example.net"));
        assert_eq!(uri.param("par"), None);
    }

    #[test]
    fn transports_known_and_unknown() {
        let vias: String = ["SCTP", "TLS", "UNKNOWN", "TCP"]
            .iter()
            .map(|t| format!("Via: SIP/2.0/{t} t.example.com;branch=z9hG4bK{t}\n"))
            .collect();
        let bytes = crlf(&request("OPTIONS", &vias));
        let message = accepts(&bytes);
        let seen: Vec<_> = message.vias().iter().map(|via| via.transport).collect();
        assert_eq!(seen, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    }

    #[test]
    fn mpart01_a_binary_body_of_several_parts() {
        let mut bytes = crlf(&request("MESSAGE", "Content-Type: multipart/mixed;boundary=7a9c\nContent-Length: 23\n"));
        bytes.extend_from_slice(b"--7a9c\r\n\r\n\0\xff\xfe\r\n--7a9c--");
        let message = accepts(&bytes);
        assert!(message.has_content_type("Multipart/Mixed"));
        assert!(message.body().contains(&0xff));
    }

    #[test]
    fn unreason_any_text_may_be_the_reason() {
        let text = request("INVITE", "").replace(
            "INVITE sip:user@example.com SIP/2.0",
            "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое",
        );
        let bytes = crlf(&text);
        let message = accepts(&bytes);
        assert!(matches!(message.start(), StartLine::Response { code: 200, reason } if reason.ends_with("простое")));
    }

    #[test]
    fn noreason_the_reason_may_be_empty() {
        let text = request("INVITE", "").replace("INVITE sip:user@example.com SIP/2.0", "SIP/2.0 100 ");
        let bytes = crlf(&text);
        assert_eq!(accepts(&bytes).start(), &StartLine::Response { code: 100, reason: "" });
    }
}

mod invalid {
    use super::*;

    #[test]
    fn badinv01_separators_without_anything_between() {
        let text = request("INVITE", "").replace("z9hG4bKplain", "z9hG4bKplain;;,;,,");
        assert_eq!(refuses(&text), ParseError::Malformed(Name::Via));
        assert_eq!(
            refuses(&request("INVITE", "Contact: \"\" <>;,,\n")),
            ParseError::HeaderUri(Name::Contact, UriError::Scheme)
        );
    }

    #[test]
    fn clerr_content_length_beyond_the_datagram() {
        assert_eq!(refuses(&request("INVITE", "Content-Length: 9999\n")), ParseError::ContentLengthBeyondBody);
    }

    #[test]
    fn ncl_negative_content_length() {
        assert_eq!(refuses(&request("INVITE", "Content-Length: -999\n")), ParseError::Malformed(Name::ContentLength));
    }

    #[test]
    fn scalar02_numbers_beyond_their_range() {
        let big = request("REGISTER", "").replace("CSeq: 5", "CSeq: 36893488147419103232");
        assert_eq!(refuses(&big), ParseError::NumberRange(Name::CSeq));
        assert_eq!(
            refuses(&request("REGISTER", "").replace("CSeq: 5", "CSeq: 2147483648")),
            ParseError::NumberRange(Name::CSeq)
        );
        assert_eq!(
            refuses(&request("REGISTER", "").replace("s: 70", "s: 300")),
            ParseError::NumberRange(Name::MaxForwards)
        );
        assert_eq!(
            refuses(&request("REGISTER", "Expires: 10000000000000000\n")),
            ParseError::NumberRange(Name::Expires)
        );
        assert_eq!(refuses(&request("REGISTER", "Expires: -1\n")), ParseError::Malformed(Name::Expires));
    }

    #[test]
    fn scalarlg_the_same_in_a_response() {
        let text = request("INVITE", "Retry-After: 949302838503028349304023988\n")
            .replace("INVITE sip:user@example.com SIP/2.0", "SIP/2.0 503 Service Unavailable");
        assert_eq!(accepts(&crlf(&text)).retry_after_s(), None);
        assert_eq!(
            refuses(&text.replace("CSeq: 5", "CSeq: 9292394834772304023312")),
            ParseError::NumberRange(Name::CSeq)
        );
    }

    #[test]
    fn quotbal_a_quote_that_never_ends() {
        let text = request("INVITE", "").replace("To: <", "To: \"Mr J. User <");
        assert_eq!(refuses(&text), ParseError::UnbalancedQuote(Name::To));
    }

    #[test]
    fn ltgtruri_brackets_around_the_request_uri() {
        let text = request("INVITE", "").replace("sip:user@example.com SIP", "<sip:user@example.com> SIP");
        assert!(matches!(refuses(&text), ParseError::RequestUri(_)));
    }

    #[test]
    fn lwsruri_a_blank_inside_the_request_uri() {
        let text = request("INVITE", "").replace("example.com SIP", "example.com; lr SIP");
        assert_eq!(refuses(&text), ParseError::RequestLine);
    }

    #[test]
    fn lwsstart_more_than_one_blank_in_the_request_line() {
        assert_eq!(refuses(&request("INVITE", "").replace("INVITE sip", "INVITE  sip")), ParseError::RequestLine);
        assert_eq!(refuses(&request("INVITE", "").replace("com SIP", "com  SIP")), ParseError::RequestLine);
    }

    #[test]
    fn trws_a_blank_at_the_end_of_the_request_line() {
        assert_eq!(refuses(&request("OPTIONS", "").replace("SIP/2.0\nVia", "SIP/2.0 \nVia")), ParseError::RequestLine);
    }

    #[test]
    fn escruri_header_fields_in_the_request_uri() {
        let text = request("INVITE", "").replace("example.com SIP", "example.com?Route=%3Csip:example.com%3E SIP");
        assert_eq!(refuses(&text), ParseError::RequestUriWithHeaders);
    }

    #[test]
    fn baddate_a_zone_other_than_gmt() {
        assert_eq!(
            refuses(&request("INVITE", "Date: Fri, 01 Jan 2010 16:00:00 EST\n")),
            ParseError::Malformed(Name::Date)
        );
        accepts(&crlf(&request("INVITE", "Date: Fri, 01 Jan 2010 16:00:00 GMT\n")));
    }

    #[test]
    fn regbadct_a_question_mark_in_a_contact_without_brackets() {
        let text = request("REGISTER", "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\n");
        assert_eq!(refuses(&text), ParseError::Malformed(Name::Contact));
    }

    #[test]
    fn badaspec_blanks_inside_the_brackets() {
        let text = request("OPTIONS", "").replace("To: <sip:user@example.com>", "To: \"W, T\" < sip:t@example.org >");
        assert_eq!(refuses(&text), ParseError::Malformed(Name::To));
    }

    #[test]
    fn baddn_a_comma_in_an_unquoted_name() {
        let text = request("OPTIONS", "").replace("From: <", "From: Bell, Alexander <");
        assert_eq!(refuses(&text), ParseError::Malformed(Name::From));
    }

    #[test]
    fn badvers_another_version() {
        let error = refuses(&request("OPTIONS", "").replace("com SIP/2.0", "com SIP/7.0"));
        assert_eq!((error, error.response_code()), (ParseError::Version, 505));
    }

    #[test]
    fn mismatch01_and_02_cseq_names_another_method() {
        assert_eq!(refuses(&request("OPTIONS", "").replace("5 OPTIONS", "5 INVITE")), ParseError::MethodMismatch);
        assert_eq!(refuses(&request("NEWMETHOD", "").replace("5 NEWMETHOD", "5 INVITE")), ParseError::MethodMismatch);
    }

    #[test]
    fn bigcode_a_status_of_more_than_three_digits() {
        let text = request("INVITE", "").replace("INVITE sip:user@example.com SIP/2.0", "SIP/2.0 4294967301 better");
        assert_eq!(refuses(&text), ParseError::StatusLine);
        for code in ["99", "0200", "700", "20a"] {
            assert_eq!(refuses(&text.replace("4294967301", code)), ParseError::StatusLine, "{code}");
        }
    }
}

mod semantics {
    use super::*;

    #[test]
    fn badbranch_a_cookie_with_nothing_behind_it_is_no_branch() {
        let bytes = crlf(&request("OPTIONS", "").replace("z9hG4bKplain", "z9hG4bK"));
        assert_eq!(accepts(&bytes).via().magic_branch(), None);
    }

    #[test]
    fn insuf_a_missing_header_is_named() {
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            let lines = request("INVITE", "");
            let kept: Vec<&str> = lines.lines().filter(|line| !line.starts_with(name.as_str())).collect();
            assert_eq!(refuses(&(kept.join("\n") + "\n")), ParseError::Missing(name));
        }
    }

    #[test]
    fn multi01_and_mcl01_single_headers_stand_once() {
        for (line, name) in [
            ("CSeq: 5 INVITE", Name::CSeq),
            ("i: 2", Name::CallId),
            ("f: <sip:x@y>", Name::From),
            ("t: <sip:x@y>", Name::To),
            ("Max-Forwards: 70", Name::MaxForwards),
            ("l: 0\nContent-Length: 0", Name::ContentLength),
            ("Content-Type: a/b\nc: a/b", Name::ContentType),
            ("Expires: 1\nExpires: 1", Name::Expires),
        ] {
            assert_eq!(refuses(&request("INVITE", &format!("{line}\n"))), ParseError::Duplicate(name));
        }
    }

    #[test]
    fn unkscm_novelsc_and_unksm2_other_schemes_are_read_and_left_to_the_application() {
        let text = request("OPTIONS", "Contact: <name:John_Smith>\n").replace("<sip:caller@", "<isbn:2983792873@");
        let bytes = crlf(&text.replace("sip:user@example.com SIP", "nobodyKnows:totally-opaque SIP"));
        let message = accepts(&bytes);
        assert_eq!(message.request_uri(), Some(&AnyUri::Other("nobodyKnows:totally-opaque")));
    }

    #[test]
    fn bext01_required_extensions_are_listed() {
        let bytes = crlf(&request("OPTIONS", "Require: nothingSupportsThis, \n nothingSupportsThat\n"));
        let message = accepts(&bytes);
        assert_eq!(message.values(Name::Require).count(), 2);
        assert!(message.lists(Name::Require, "nothingsupportsthat"));
    }

    #[test]
    fn zeromf_and_inv2543_are_read() {
        assert_eq!(accepts(&crlf(&request("OPTIONS", "").replace("s: 70", "s: 0"))).max_forwards(), Some(0));
        let old = "INVITE sip:UserB@example.com SIP/2.0\nVia: SIP/2.0/UDP ift.example.com\nFrom: <sip:c@example.com>\n\
                   To: <sip:u@example.com>\nCall-ID: 0ha0isndaksdj\nCSeq: 8 INVITE\n\n";
        let bytes = crlf(old);
        let message = accepts(&bytes);
        assert_eq!((message.max_forwards(), message.from().tag(), message.via().branch()), (None, None, None));
    }

    #[test]
    fn cparam01_and_02_contact_parameters_belong_to_the_header_unless_bracketed() {
        let bytes = crlf(&request("REGISTER", "m: sip:+19725552222@gw1.example.net;unknownparam\n"));
        let message = accepts(&bytes);
        assert!(message.contacts()[0].params.get("unknownparam").is_some());
        let bytes = crlf(&request("REGISTER", "m: <sip:+19725552222@gw1.example.net;unknownparam>\n"));
        let message = accepts(&bytes);
        assert!(message.contacts()[0].params.get("unknownparam").is_none());
        assert_eq!(message.contacts()[0].uri.sip().unwrap().param("unknownparam"), Some(None));
    }
}
