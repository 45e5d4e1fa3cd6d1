package sink

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"audit_s3/conf"
	"audit_s3/convert"
)

// The time that one Put may take: a connection that trickles must not hold up the
// backlog for ever.
const (
	putTime = 75 * time.Second
	putRate = 256 << 10 // bytes per second, on top of that
)

// s3Store is S3, or a server that speaks its protocol.
type s3Store struct {
	conf    conf.Config
	putTime time.Duration

	mu      sync.Mutex // held while connecting anew
	current atomic.Pointer[connection]
	// unconditional means that the server refuses conditional writes.
	unconditional atomic.Bool
}

// connection is a client with the credentials that were found when it was made.
type connection struct {
	client    *s3.Client
	transport *http.Transport
}

// NewS3 sets up the AWS SDK. It makes no request: S3 being away is no reason not
// to start. The error is about the configuration.
func NewS3(ctx context.Context, c conf.Config) (Store, error) {
	s := &s3Store{conf: c, putTime: putTime}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	s.current.Store(conn)
	return s, nil
}

// connect reads the SDK's configuration: environment, files, and what is found
// by way of them.
func (s *s3Store) connect(ctx context.Context) (*connection, error) {
	c := s.conf
	options := []func(*awsconfig.LoadOptions) error{
		// The SDK's own log may show headers.
		awsconfig.WithLogger(logging.Nop{}),
		awsconfig.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		// The SDK's budget of retries would hide why an attempt failed.
		awsconfig.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.RateLimiter = ratelimit.None })
		}),
	}
	if c.Region != "" {
		options = append(options, awsconfig.WithRegion(c.Region))
	}
	if c.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(c.Profile))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("setting up the AWS SDK: %w", err)
	}
	if cfg.Region == "" {
		if c.Endpoint == "" {
			return nil, conf.Problems{{Key: "region", Allowed: "is neither set here nor found by the AWS SDK (AWS_REGION, config file); write one such as `eu-central-1`"}}
		}
		cfg.Region = "us-east-1" // other servers sign with it unless told otherwise
	}
	// A transport of our own, so that its connections can be closed. It keeps what
	// the SDK made of AWS_CA_BUNDLE.
	base, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		base = awshttp.NewBuildableClient()
	}
	transport := base.GetTransport()
	cfg.HTTPClient = &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.RoleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(assumeRole(cfg, c))
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
			o.UsePathStyle = true
		}
	})
	return &connection{client, transport}, nil
}

// reconnect replaces a connection whose credentials were refused: the SDK reads a
// credentials file once, and rotated ones would need a restart.
func (s *s3Store) reconnect(ctx context.Context, old *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.Load() != old {
		return // somebody else has done so
	}
	// A file that is just being rewritten may not parse; the next failure tries again.
	if conn, err := s.connect(ctx); err == nil {
		s.current.Store(conn)
		old.transport.CloseIdleConnections()
	}
}

func assumeRole(cfg aws.Config, c conf.Config) aws.CredentialsProvider {
	client := sts.NewFromConfig(cfg, func(o *sts.Options) {
		if c.STSEndpoint != "" {
			o.BaseEndpoint = aws.String(c.STSEndpoint)
		}
	})
	return stscreds.NewAssumeRoleProvider(client, c.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = "audit_s3"
		if c.ExternalID != "" {
			o.ExternalID = aws.String(c.ExternalID)
		}
	})
}

// Put stores the file under the object's key, unless that name is taken: only
// the same bytes ever get the same name, so 412 means that it is done, and the
// writer needs no right to read.
func (s *s3Store) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	h := sha256.New()
	if err := rewound(body, func() error { _, err := io.Copy(h, body); return err }); err != nil {
		return 0, fmt.Errorf("reading what is to be uploaded: %w", err)
	}
	input := &s3.PutObjectInput{
		Bucket:        aws.String(bucket),
		Key:           aws.String(object.Key),
		Body:          body,
		ContentLength: aws.Int64(body.Size()),
		ContentType:   aws.String(object.ContentType),
		// Said apart too, which S3 asks for where a put carries a retention.
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
		ChecksumSHA256:    aws.String(base64.StdEncoding.EncodeToString(h.Sum(nil))),
		Metadata:          object.Metadata,
	}
	s.retain(input)
	ctx, cancel := context.WithTimeout(ctx, s.putTime+time.Duration(body.Size()/putRate)*time.Second)
	defer cancel()
	return s.put(ctx, input, body)
}

// retain sets what the configuration says of every object. It is that of the time
// of upload, so that a backlog that a wrong key held up goes on with the right one.
func (s *s3Store) retain(input *s3.PutObjectInput) {
	c := s.conf
	input.ServerSideEncryption = types.ServerSideEncryption(c.SSE)
	if c.SSEKMSKeyID != "" {
		input.SSEKMSKeyId = aws.String(c.SSEKMSKeyID)
	}
	input.StorageClass = types.StorageClass(c.StorageClass)
	if c.ObjectLockMode != "" {
		input.ObjectLockMode = types.ObjectLockMode(c.ObjectLockMode)
		input.ObjectLockRetainUntilDate = aws.Time(time.Now().Add(c.ObjectLockRetention).UTC())
	}
}

func (s *s3Store) put(ctx context.Context, input *s3.PutObjectInput, body *io.SectionReader) (Stored, error) {
	conn := s.current.Load()
	// Asked for apart, so that an error of theirs is known as one. They are cached.
	if _, err := conn.client.Options().Credentials.Retrieve(ctx); err != nil {
		s.reconnect(ctx, conn)
		return 0, &UploadError{reasonOfCredentials(err), plain(err)}
	}
	stored := Created
	if s.unconditional.Load() {
		stored = Unconditional
	} else {
		input.IfNoneMatch = aws.String("*")
	}
	err := rewound(body, func() error { _, err := conn.client.PutObject(ctx, input); return err })
	switch {
	case err == nil:
		return stored, nil
	case statusOf(err) == http.StatusPreconditionFailed:
		return Existed, nil
	case input.IfNoneMatch != nil && isNotImplemented(err):
		// Without the condition a repeat overwrites an object with the same bytes.
		input.IfNoneMatch = nil
		if err := rewound(body, func() error { _, err := conn.client.PutObject(ctx, input); return err }); err == nil {
			s.unconditional.Store(true)
			return Unconditional, nil
		}
	case stored == Unconditional:
		s.unconditional.Store(false) // perhaps for want of the condition
	}
	reason := reasonOf(err)
	if reason == Denied && isThere(ctx, conn.client, input) {
		return Existed, nil
	}
	// Any refusal may be for credentials that are not valid any more: servers have
	// their own codes for that.
	if status := statusOf(err); status < 500 && status >= 300 && !reason.own() {
		s.reconnect(ctx, conn)
	}
	return 0, &UploadError{reason, plain(err)}
}

// isNotImplemented tells whether S3 itself, and no gateway before it, says that it
// does not know what was asked.
func isNotImplemented(err error) bool {
	var api smithy.APIError
	return statusOf(err) == http.StatusNotImplemented && errors.As(err, &api) && api.ErrorCode() == "NotImplemented"
}

// reasonOfCredentials: where a service that gives credentials cannot be reached,
// that is to be mended; where the last of the SDK's places to look, the metadata
// service of a machine that has none, does not answer, there simply are none.
func reasonOfCredentials(err error) Reason {
	reason := reasonOf(err)
	if reason != Unreachable && reason != Timeout {
		return Credentials
	}
	if service := serviceOf(err); strings.HasPrefix(service, "STS") || strings.HasPrefix(service, "SSO") {
		return reason
	}
	return Credentials
}

// isThere looks whether the object is there, when putting it was denied. Some
// servers (versitygw 1.8.0) refuse to overwrite a locked object before they look
// at the condition, so that a repeat would be denied for as long as the lock
// lasts. Without the right to read the answer is no, and nothing is worse.
func isThere(ctx context.Context, client *s3.Client, input *s3.PutObjectInput) bool {
	_, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: input.Bucket, Key: input.Key})
	return err == nil
}

// Close ends the connections that are kept open.
func (s *s3Store) Close() { s.current.Load().transport.CloseIdleConnections() }

// rewound reads body from its beginning and leaves it there.
func rewound(body *io.SectionReader, read func() error) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err := read()
	_, rewinding := body.Seek(0, io.SeekStart)
	return errors.Join(err, rewinding)
}

func statusOf(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// reasonOf tells errors of the SDK apart: by S3's code, else by the status, since
// proxies and other servers answer too.
func reasonOf(err error) Reason {
	var api smithy.APIError
	if errors.As(err, &api) {
		if reason, ok := reasonOfCode(api.ErrorCode(), api.ErrorMessage()); ok {
			return reason
		}
	}
	switch status := statusOf(err); {
	case status == 0 && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return Timeout
	case status == 0:
		var sending *smithyhttp.RequestSendError
		if errors.As(err, &sending) {
			return Unreachable
		}
		return Unknown
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return Denied
	case status == http.StatusNotFound:
		return NoSuchBucket
	case status == http.StatusConflict:
		return Conflict
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 500:
		return ServerError
	case status >= 300 && status < 400:
		return WrongRegion
	}
	return Refused
}

// reasonOfCode knows the codes of S3 and STS.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func reasonOfCode(code, message string) (Reason, bool) {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch",
		"InvalidClientTokenId", "UnrecognizedClientException", "InvalidIdentityToken", "RequestExpired", "MissingAuthenticationToken",
		"XAdminUserNotFound": // the last is versitygw's
		return Credentials, true
	case "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem":
		if strings.Contains(message, "kms:") {
			return KMS, true
		}
		return Denied, true
	case "NoSuchBucket":
		return NoSuchBucket, true
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return WrongRegion, true
	case "RequestTimeTooSkewed", "RequestInTheFuture":
		return ClockSkew, true
	case "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequestsException":
		return Throttled, true
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody":
		return Checksum, true
	case "ConditionalRequestConflict", "OperationAborted":
		return Conflict, true
	case "RequestTimeout":
		return Timeout, true
	case "InvalidRequest", "InvalidArgument", "ObjectLockConfigurationNotFoundError":
		if strings.Contains(message, "Object Lock") || strings.Contains(code, "ObjectLock") {
			return ObjectLock, true
		}
	}
	if strings.HasPrefix(code, "KMS.") || strings.HasPrefix(code, "KMSKey") || strings.Contains(code, "InvalidKMS") {
		return KMS, true
	}
	return "", false
}

// plain shortens the SDK's chain of wrappers to what an operator can use.
func plain(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		message := api.ErrorMessage()
		const long = 300 // some servers repeat the request, signature and all
		if len(message) > long {
			message = message[:long] + "…"
		}
		return fmt.Errorf("%s answered %d %s: %s", serviceOf(err), statusOf(err), api.ErrorCode(), message)
	}
	return err
}

// serviceOf is the innermost: STS, where assuming a role failed.
func serviceOf(err error) string {
	service := "S3"
	var op *smithy.OperationError
	for e := err; errors.As(e, &op); e = op.Err {
		service = op.Service()
	}
	return service
}
