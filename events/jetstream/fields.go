package jetstream

import (
	"strings"

	"github.com/nats-io/nats.go"
)

// field is one of the headers of an event, by number.
type field uint8

// The headers. What is none of them is fNone.
const (
	fNone field = iota
	fSpec
	fID
	fType
	fSource
	fSubject
	fTime
	fSchema
	fVersion
	fUID
	fUser
	fAudit
	fCause
	fBasis
	fNow
	fAsked
	fOptional
	fMore
	fNote
	fNoteAt
	fChain
	// Those of a dead letter.
	fTarget
	fReason
	fAttempts
	fSince
	fAt
	fieldCount
)

var fieldNames = [fieldCount]string{
	fSpec: hSpec, fID: hID, fType: hType, fSource: hSource, fSubject: hSubject, fTime: hTime, fSchema: hSchema,
	fVersion: hVersion, fUID: hUID, fUser: hUser, fAudit: hAudit, fCause: hCause, fBasis: hBasis, fNow: hNow,
	fAsked: hAsked, fOptional: hOptional, fMore: hMore, fNote: hNote, fNoteAt: hNoteAt, fChain: hChain,
	fTarget: hTarget, fReason: hReason, fAttempts: hAttempts, fSince: hSince, fAt: hAt,
}

// fields are the values of an event's headers, "" for one that is not there.
type fields [fieldCount]string

// fieldOf returns the number of a header.
func fieldOf(key string) field {
	switch key {
	case hSpec:
		return fSpec
	case hID:
		return fID
	case hType:
		return fType
	case hSource:
		return fSource
	case hSubject:
		return fSubject
	case hTime:
		return fTime
	case hSchema:
		return fSchema
	case hVersion:
		return fVersion
	case hUID:
		return fUID
	case hUser:
		return fUser
	case hAudit:
		return fAudit
	case hCause:
		return fCause
	case hBasis:
		return fBasis
	case hNow:
		return fNow
	case hAsked:
		return fAsked
	case hOptional:
		return fOptional
	case hMore:
		return fMore
	case hNote:
		return fNote
	case hNoteAt:
		return fNoteAt
	case hChain:
		return fChain
	case hTarget:
		return fTarget
	case hReason:
		return fReason
	case hAttempts:
		return fAttempts
	case hSince:
		return fSince
	case hAt:
		return fAt
	}
	return fNone
}

// fieldsOf reads the headers of a message.
func fieldsOf(h nats.Header) *fields {
	var f fields
	for key, values := range h {
		if i := fieldOf(key); i != fNone && len(values) > 0 {
			f[i] = values[0]
		}
	}
	return &f
}

// parse reads a block of headers, and says whether it is one as the client writes it,
// each header with a value and none of an event's there twice.
func (f *fields) parse(s string) bool {
	s, ok := strings.CutPrefix(s, "NATS/1.0\r\n")
	if !ok {
		return false
	}
	for s != "\r\n" {
		colon := strings.IndexByte(s, ':')
		if colon < 0 {
			return false
		}
		end := strings.IndexByte(s[colon:], '\r') + colon
		// A value, and what ends it.
		if end <= colon+2 || end+1 >= len(s) || s[colon+1] != ' ' || s[end+1] != '\n' {
			return false
		}
		if i := fieldOf(s[:colon]); i != fNone {
			if f[i] != "" {
				return false
			}
			f[i] = s[colon+2 : end]
		}
		s = s[end+2:]
	}
	return true
}
