package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
)

// explain maps an error to ship's sentinels and says what to do about it.
func (s *Store) explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if bad, ok := errors.AsType[*refusedError](err); ok {
		return fmt.Errorf("%s: %w", what, s.refused(bad))
	}
	// minio-go returns its answer as a value, sometimes wrapped.
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok {
		return fmt.Errorf("%s: %w", what, s.answered(answer))
	}
	return fmt.Errorf("%s: %w", what, s.unanswered(err))
}

// answered is for what the server said.
func (s *Store) answered(a minio.ErrorResponse) error {
	where := fmt.Sprintf("bucket %s at %s", s.bucket, s.endpoint)
	switch a.Code {
	case "NoSuchKey", "NoSuchVersion", "XMinioObjectNotFound":
		return fmt.Errorf("%w in %s", ship.ErrNotFound, where)
	case "NoSuchBucket", "InvalidBucketName":
		return advice.With(fmt.Errorf("%s: %w", where, ship.ErrNoBucket), "check the name in url = \"s3://BUCKET/PREFIX\", or make the bucket, which snapd never does")
	case "PreconditionFailed":
		return ship.ErrExists
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "InvalidToken", "ExpiredToken", "ExpiredTokenException":
		return advice.With(fmt.Errorf("%s: %w: the credentials are wrong (%s: %s)", where, ship.ErrDenied, a.Code, a.Message),
			"set access key and secret key (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the credentials file) to ones that the server knows")
	case "RequestTimeTooSkewed", "RequestExpired":
		return advice.With(fmt.Errorf("%s: %w: the clock of this host and that of the server differ too much (%s)", where, ship.ErrDenied, a.Message),
			"set both clocks, for example with systemd-timesyncd or chrony")
	case "AccessDenied", "AllAccessDisabled", "Forbidden":
		if key, err := s.core.GetCreds(); err == nil && key.AccessKeyID == "" {
			return advice.With(fmt.Errorf("%s: %w: no access key was found here", where, ship.ErrDenied),
				"set credentials-file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the agent, which has no shell's environment, is handed them by systemd: /etc/default/snapd-agent, or the credential snapd-agent.s3 in /etc/credstore")
		}
		return advice.With(fmt.Errorf("%s: %w: the keys are known but lack a right (%s)", where, ship.ErrDenied, a.Message),
			"give their user s3:ListBucket on the bucket, s3:GetObject and s3:PutObject below the prefix, and s3:DeleteObject if this host prunes")
	case "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded":
		return advice.With(fmt.Errorf("%s is full: %s", where, a.Message), "make room there, or remove old points with: snapd prune; the next ship goes on where this one stopped")
	case "AuthorizationHeaderMalformed", "InvalidRegion":
		return advice.With(fmt.Errorf("%s: wrong region: %s", where, a.Message), "set region for this repository in the configuration")
	case "SlowDown", "SlowDownWrite", "SlowDownRead", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError",
		"ServiceUnavailable", "ConditionalRequestConflict", "OperationAborted", "XMinioServerNotInitialized":
		return fmt.Errorf("%s: %w (%s: %s)", where, ship.ErrUnavailable, a.Code, a.Message)
	}
	switch {
	case a.StatusCode >= 500, a.StatusCode == http.StatusTooManyRequests, a.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("%s: %w (%s: %s)", where, ship.ErrUnavailable, a.Code, a.Message)
	case a.StatusCode == http.StatusForbidden, a.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w (%s: %s)", where, ship.ErrDenied, a.Code, a.Message)
	}
	return fmt.Errorf("%s: the server answered %s: %s", where, a.Code, a.Message)
}

// refused is for answers that no object store gives, and for objects that
// were deleted.
func (s *Store) refused(bad *refusedError) error {
	if bad.deleted {
		return advice.With(fmt.Errorf("%w in bucket %s at %s: %w", ship.ErrNotFound, s.bucket, s.endpoint, ship.ErrDeleted),
			"list the versions below %s%s with a client of the bucket (mc ls --versions, aws s3api list-object-versions) and remove the delete markers: the versions below them are then there again", s.bucket, "/"+s.prefix)
	}
	return advice.With(fmt.Errorf("%s: %w: %s", s.endpoint, ship.ErrNotAStore, bad.why),
		"check the endpoint, and what stands before the server: a proxy, a firewall, or the login page of a network")
}

// unanswered is for when there was none.
func (s *Store) unanswered(err error) error {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority), errors.As(err, &name), errors.As(err, &invalid):
		return advice.With(fmt.Errorf("%s: its certificate does not hold: %w", s.endpoint, err),
			"add the server's authority to this host's trusted ones (update-ca-certificates), or correct the endpoint")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return advice.With(fmt.Errorf("%s: it does not speak TLS: %w", s.endpoint, err), "write http:// in the endpoint, if the network in between can be trusted")
	case errors.Is(err, syscall.ECONNREFUSED):
		return advice.With(fmt.Errorf("%s: %w: connection refused", s.endpoint, ship.ErrUnavailable), "check that the server is running and that the port is right")
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return advice.With(fmt.Errorf("%s: %w: %w", s.endpoint, ship.ErrUnavailable, dns), "check the name of the endpoint")
	}
	if strings.Contains(err.Error(), "InvalidBucketName") || strings.Contains(err.Error(), "Bucket name") {
		return advice.With(fmt.Errorf("bucket %q: %w: %w", s.bucket, ship.ErrNoBucket, err), "check url = \"s3://BUCKET/PREFIX\"")
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err // without the address once more
	}
	return fmt.Errorf("%s: %w: %w", s.endpoint, ship.ErrUnavailable, err)
}
