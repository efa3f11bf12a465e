package edge

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
)

// problem is an answer of the edge itself, as application/problem+json (RFC
// 9457, section 3). Its type is "about:blank", so the title is the status's.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
	Client    string `json:"client,omitempty"` // the visitor's own address
}

// details say what a visitor may know. None depends on which containers exist.
var details = map[int]string{
	http.StatusBadRequest:         "The request is not valid HTTP.",
	http.StatusForbidden:          "You may not open this address from where you are.",
	http.StatusNotFound:           "There is nothing at this address.",
	http.StatusMisdirectedRequest: "This connection is not for that host.",
	http.StatusNotImplemented:     "This method is not supported.",
	http.StatusBadGateway:         "Nothing listens there at the moment.",
	http.StatusServiceUnavailable: "This is not running at the moment.",
	http.StatusGatewayTimeout:     "There was no answer in time.",
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

// page answers the request in the client's format.
func (x *exchange) page(status int) {
	p := problem{
		Type:      "about:blank",
		Title:     http.StatusText(status),
		Status:    status,
		Detail:    details[status],
		RequestID: x.idString(),
	}
	if status == http.StatusForbidden && x.request.Client.IsValid() {
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
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Request-Id", p.RequestID)
	x.status = status
	x.w.WriteHeader(status)
	n, _ := x.w.Write([]byte(body.String()))
	x.written += int64(n)
}

type format uint8

const (
	formatText format = iota
	formatHTML
	formatJSON
)

// preferred is the first format that an Accept header names. Weights are not
// read: browsers and libraries that want either name it first.
func preferred(accept []string) format {
	for _, line := range accept {
		for media := range strings.SplitSeq(line, ",") {
			media, _, _ = strings.Cut(media, ";")
			switch strings.ToLower(strings.TrimSpace(media)) {
			case "text/html", "application/xhtml+xml":
				return formatHTML
			case "application/json", "application/problem+json":
				return formatJSON
			}
		}
	}
	return formatText
}
