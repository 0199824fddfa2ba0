package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	left := -1
	s := server{version: "7", exit: func(code int) { left = code }}
	handler := s.handler()
	for _, c := range []struct {
		method, url string
		code        int
		body        string
	}{
		{"GET", "/", 200, "Hello from demo 7 on "},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 503, "not ready"},
		{"POST", "/readyz?ready=true", 200, "ready: true"},
		{"GET", "/readyz", 200, "ready"},
		{"POST", "/readyz", 400, "want ?ready="},
		{"GET", "/env", 200, "PATH="},
		{"GET", "/exit?code=many", 400, "want ?code=N"},
		{"GET", "/exit?code=3", 200, "exiting with 3"},
		{"GET", "/nothing", 404, ""},
	} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(c.method, c.url, http.NoBody))
		if answer.Code != c.code || !strings.Contains(answer.Body.String(), c.body) {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.url, answer.Code, answer.Body, c.code, c.body)
		}
	}
	if left != 3 {
		t.Errorf("/exit?code=3 left with %d", left)
	}
}
