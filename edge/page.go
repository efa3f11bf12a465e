package edge

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// problem is an answer of the edge itself, as application/problem+json (RFC
// 9457, section 3). Its type is "about:blank", so the title is the status's;
// reason tells apart what has the same status.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Reason    string `json:"reason"`
	RequestID string `json:"request_id"`
	Client    string `json:"client,omitempty"` // the visitor's own address
}

// refusal is why a request is answered by the edge. Its words are for
// strangers: none depends on which containers exist.
type refusal struct {
	status         int
	reason, detail string
}

var (
	malformed       = refusal{http.StatusBadRequest, "malformed", "The request is not valid HTTP."}
	refused         = refusal{http.StatusForbidden, "refused", "This address is not open to you from where you are."}
	unproven        = refusal{http.StatusUnauthorized, "unproven", "This address asks for a password or a token."}
	tooLarge        = refusal{http.StatusRequestHeaderFieldsTooLarge, "too-large", "The header of the request is too large: at most 64 KiB, 128 fields, 32 tokens in Connection, 1,024 cookies and 4,096 parameters."}
	tooMany         = refusal{http.StatusTooManyRequests, "too-many", "There were too many wrong passwords or tokens from here. Wait a moment."}
	busy            = refusal{http.StatusServiceUnavailable, "busy", "Your password or token could not be checked just now. Try again in a moment."}
	unknown         = refusal{http.StatusNotFound, "unknown", "There is nothing at this address. It may be misspelt, or no longer in use."}
	wrongConnection = refusal{http.StatusMisdirectedRequest, "wrong-connection", "This connection is not for that host. Open the address anew."}
	unsupported     = refusal{http.StatusNotImplemented, "unsupported", "This method is not supported."}
	elsewhere       = refusal{http.StatusBadGateway, "elsewhere", "The destination is not at this address."}
	nothingListens  = refusal{http.StatusBadGateway, "nothing-listens", "Nothing listens there at the moment. What should may still be starting."}
	brokenAnswer    = refusal{http.StatusBadGateway, "broken-answer", "What listens there gave no proper answer."}
	starting        = refusal{http.StatusServiceUnavailable, "starting", "This server is starting. Try again in a moment."}
	noCertificate   = refusal{http.StatusServiceUnavailable, "no-certificate", "The certificate of this host is being obtained. Try again in a moment."}
	notRunning      = refusal{http.StatusServiceUnavailable, "not-running", "This is not running at the moment."}
	closed          = refusal{http.StatusServiceUnavailable, "closed", "This is closed to visitors at the moment."}
	overloaded      = refusal{http.StatusServiceUnavailable, "overloaded", "Too much is asked for at the moment. Try again in a moment."}
	tooSlow         = refusal{http.StatusRequestTimeout, "too-slow", "The request took too long to arrive."}
	noAnswer        = refusal{http.StatusGatewayTimeout, "no-answer", "There was no answer in time."}
)

// refusal is the answer to a request that is not passed on.
func (d *Decision) refusal() refusal {
	switch {
	case d.Verdict == NotFound:
		return unknown
	case d.Verdict == Unavailable && d.Closed:
		return closed
	case d.Verdict == Unavailable:
		return notRunning
	case d.Verdict == Elsewhere:
		return elsewhere
	case d.Verdict == Deny && d.Ask != 0:
		return unproven
	default:
		return refused
	}
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page answers the request in the client's format.
func (x *exchange) page(why refusal) {
	status := why.status
	p := problem{
		Type:      "about:blank",
		Title:     http.StatusText(status),
		Status:    status,
		Detail:    why.detail,
		Reason:    why.reason,
		RequestID: x.idString(),
	}
	if (status == http.StatusForbidden || status == http.StatusUnauthorized) && x.request.Client.IsValid() {
		p.Client = x.request.Client.String()
	}

	var body strings.Builder
	var contentType string
	switch preferred(x.r.Header.Values("Accept")) {
	case formatJSON:
		contentType = "application/problem+json"
		_ = json.NewEncoder(&body).Encode(p)
	case formatHTML:
		contentType = "text/html; charset=utf-8"
		_ = pageTemplate.Execute(&body, p)
	default:
		contentType = "text/plain; charset=utf-8"
		fmt.Fprintf(&body, "%d %s: %s", p.Status, p.Title, p.Detail)
		if p.Client != "" {
			fmt.Fprintf(&body, " Your address is %s.", p.Client)
		}
		fmt.Fprintf(&body, " (request %s)\n", p.RequestID)
	}

	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(body.Len())) // else it would depend on when the server sends it
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Request-Id", p.RequestID)
	h.Set("X-Content-Type-Options", "nosniff")
	x.advertise()
	x.dismiss()
	x.status = status
	x.beforePage()
	x.w.WriteHeader(status)
	n, _ := x.w.Write([]byte(body.String()))
	x.written += int64(n)
}

// pageAndClose answers a request that is not read any further, and ends a
// connection of HTTP/1.1: nobody knows where the next request begins.
func (x *exchange) pageAndClose(why refusal) {
	if x.r.ProtoMajor == 1 {
		x.w.Header().Set("Connection", "close")
	}
	x.page(why)
}

type format uint8

const (
	formatText format = iota
	formatHTML
	formatJSON
)

// preferred is the format that an Accept header gives the greatest weight (RFC
// 9110, section 12.5.1), the first of equals. A range such as "*/*" is met by
// plain text, which people read in a terminal.
func preferred(accept []string) format {
	best, most := formatText, 0.0
	for _, line := range accept {
		for media := range strings.SplitSeq(line, ",") {
			media, parameters, _ := strings.Cut(media, ";")
			var f format
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "text/html", "application/xhtml+xml":
				f = formatHTML
			case "application/json", "application/problem+json":
				f = formatJSON
			case "text/plain", "text/*", "*/*":
				f = formatText
			default:
				continue
			}
			if q := weight(parameters); q > most {
				best, most = f, q
			}
		}
	}
	return best
}

// weight is the parameter q, 1 if there is none or it cannot be read.
func weight(parameters string) float64 {
	for p := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if q, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}
