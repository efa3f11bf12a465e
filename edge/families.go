package edge

// family is a group of request fields by which one kind of sender tells an
// application who calls, or for what.
type family struct {
	sender string
	names  []string // a "*" at the end stands for anything, nothing included
}

// families are all request fields that only the edge may send. The same list
// stands in docs/reference.md, which a test compares.
//
// A name is left out where clients have a use of their own for it, as for
// X-Auth-User of Swift, X-Auth-Email of Cloudflare's API, X-User-Id of
// Rocket.Chat, X-User-Agent of gRPC-Web, X-Ms-Version of Azure's storage and
// X-Goog-Api-Key.
var families = []family{
	{"swage", []string{"Swage-*", "X-Request-Id"}},
	{"RFC 7239, X-Forwarded-* and misspellings", []string{
		"Forwarded*", "X-Forwarded*", "X-Forward-*", "Http-Forwarded*", "Http-X-Forwarded*", "Http-X-Forward-*", "X-Http-Forwarded*",
	}},
	{"client address, any proxy", []string{
		"X-Real-*", "X-Client-Ip*", "Client-Ip*", "X-Client-Addr*", "X-Client-Host", "X-Client-Port", "X-Client-Proto*",
		"X-Clientip*", "Clientip", "X-Cluster-Client*", "Cluster-Client-Ip", "Http-Client-Ip*", "Http-X-Real-Ip", "Http-X-Client-Ip",
		"X-Originating-Ip", "X-Source-Ip", "X-Src-Ip", "X-Remote-*", "Remote-*", "Http-Remote-*",
		"X-Coming-From", "Coming-From", "X-Custom-Ip-Authorization", "X-Proxyuser-Ip",
	}},
	{"proxies of Java servers, and httpoxy", []string{
		"Proxy", "Proxy-*", "X-Proxy-*", "Wl-*", "X-Wl-*", "Http-Proxy*", "Http-Wl-*",
	}},
	{"original host, path and scheme", []string{
		"X-Host*", "Http-Host", "X-Http-Host*", "X-Original-Url", "X-Original-Uri", "X-Original-Host", "X-Original-Path",
		"X-Original-Proto*", "X-Original-Scheme", "X-Original-Method", "X-Original-Port", "X-Original-Forwarded*",
		"X-Original-Remote*", "X-Original-Client*", "X-Originalurl", "X-Rewrite-*", "X-Scheme", "X-Url-Scheme", "X-Script-Name",
		"Script-Name", "X-Backend-Host", "Front-End-Https",
		"X-Accel-*", "X-Sendfile*",
	}},
	{"user, any proxy", []string{
		"X-Auth-Request-*", "X-Webauth-*", "X-Authenticated-*", "X-Authentik-*", "X-Vouch-*", "X-Pomerium-*",
		"X-Consumer-*", "X-Credential-*", "X-Anonymous-Consumer", "X-Userinfo", "X-Endpoint-Api-Userinfo",
		"X-Shib-*", "Shib-*", "Oidc-*", "X-Oidc-*", "Mellon-*", "X-Saml-*", "X-Sso-*", "Sm-*", "Smuser", "Iv-*",
		"Osso-*", "Oam-*", "X-Replit-User-*", "Ngrok-Auth-*", "Tailscale-*", "X-Tailscale-*",
		"Auth-Type", "Auth-User",
	}},
	{"client certificate", []string{
		"Client-Cert*", "X-Client-Cert*", "X-Clientcert*", "X-Client-Verify", "X-Client-Dn", "X-Client-S-Dn", "X-Client-I-Dn",
		"X-Client-Subject*", "X-Client-Issuer*", "X-Client-Serial*", "X-Client-Fingerprint*",
		"Ssl-*", "X-Ssl-*", "Tls-Client-*", "X-Tls-*", "X-Mtls-*", "X-Arr-*", "X-Certificate-*",
	}},
	{"Cloudflare", []string{"Cf-Connecting-*", "Cf-Pseudo-*", "Cf-Access-*", "Cf-Ipcountry", "Cf-Visitor", "Cf-Worker", "Cf-Client-*", "X-Cf-Connecting-*"}},
	{"Fastly, Akamai and other networks", []string{
		"True-Client-*", "X-True-Client-*", "Http-True-Client-Ip", "Fastly-Client*", "Fastly-Ssl", "Fastly-Ff", "X-Akamai-*", "Akamai-*", "Incap-Client-Ip", "X-Sucuri-*",
		"Ali-Cdn-Real-Ip", "Cdn-Src-Ip", "Cdn-Real-Ip", "Do-Connecting-Ip", "Fly-Client-*", "Fly-Forwarded-*",
		"X-Vercel-Ip-*", "X-Vercel-Forwarded-*", "X-Vercel-Proxied-*", "X-Nf-*",
	}},
	{"Azure", []string{"X-Azure-*", "X-Fd-*", "X-Ms-Client-Principal*", "X-Ms-Token-*", "X-Appgw-*"}},
	{"Google", []string{"X-Appengine-*", "X-Google-*", "X-Goog-Authenticated-*", "X-Goog-Iap-*", "X-Cloudtasks-*"}},
	{"Amazon", []string{"X-Amzn-Oidc-*", "X-Amzn-Mtls-*", "X-Amzn-Tls-*", "X-Amzn-Request-Context", "X-Amzn-Lambda-Context", "X-Apigateway-*", "Cloudfront-*"}},
	{"Envoy, Istio and Linkerd", []string{"X-Envoy-*", "X-Istio-*", "L5d-*"}},
}
