//! Who may use the API: whoever knows the token, from this machine.

use std::hint::black_box;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Problem;

/// Lets a request pass, or answers 403 (wrong host) or 401 (no or wrong token).
pub(super) async fn check(token: Arc<str>, request: Request, next: Next) -> Response {
    if !loopback_host(request.headers()) {
        let why = "the Host header must name this machine's loopback interface";
        return Problem::new(StatusCode::FORBIDDEN, why).into_response();
    }
    if !has_token(request.headers(), &token) {
        let why = "a bearer token is needed: it stands in api.json in the data folder";
        let mut response = Problem::new(StatusCode::UNAUTHORIZED, why).into_response();
        let scheme = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        return response;
    }
    next.run(request).await
}

fn loopback_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|ok| name.eq_ignore_ascii_case(ok))
}

fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let Some((scheme, given)) = given.and_then(|v| v.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && same(given.trim(), token)
}

/// Compares without telling by its time where the difference is. The length is no secret.
fn same(a: &str, b: &str) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference = a.bytes().zip(b.bytes()).fold(0, |d, (a, b)| black_box(d | (a ^ b)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(name, HeaderValue::from_str(value).unwrap());
        map
    }

    #[test]
    fn only_loopback_names_pass() {
        for ok in ["127.0.0.1:80", "127.0.0.1", "LOCALHOST:1", "localhost", "[::1]:9", "[::1]"] {
            assert!(loopback_host(&headers(header::HOST, ok)), "{ok}");
        }
        for bad in ["", "evil.example", "127.0.0.1.evil.example:80", "localhost:80:evil", "::1"] {
            assert!(!loopback_host(&headers(header::HOST, bad)), "{bad}");
        }
        assert!(!loopback_host(&HeaderMap::new()));
        let mut two = headers(header::HOST, "localhost");
        two.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(!loopback_host(&two));
    }

    #[test]
    fn only_the_token_passes() {
        let with = |v: &str| has_token(&headers(header::AUTHORIZATION, v), "abc");
        assert!(with("Bearer abc"));
        assert!(with("bearer abc"));
        for bad in ["abc", "Bearer", "Bearer abd", "Bearer ab", "Bearer abcd", "Basic abc"] {
            assert!(!with(bad), "{bad}");
        }
    }
}
