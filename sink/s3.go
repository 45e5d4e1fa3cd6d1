package sink

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"audit_s3/conf"
	"audit_s3/convert"
)

// putTimeout bounds one PUT, so that a connection that trickles cannot hold up
// the backlog for ever. It is generous: 256 MB at 1 MB/s.
const putTimeout = 5 * time.Minute

// s3Store is S3, or a server that speaks its protocol.
type s3Store struct{ client *s3.Client }

// NewS3 sets up the AWS SDK. It makes no request: S3 being away is no reason not
// to start. The error is about the configuration.
func NewS3(ctx context.Context, c conf.Config) (Store, error) {
	options := []func(*awsconfig.LoadOptions) error{
		// The SDK's own log may show headers.
		awsconfig.WithLogger(logging.Nop{}),
		awsconfig.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
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
	if c.RoleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(assumeRole(cfg, c))
	}
	return &s3Store{s3.NewFromConfig(cfg, func(o *s3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
			o.UsePathStyle = true
		}
	})}, nil
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
func (s *s3Store) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	h := sha256.New()
	if _, err := io.Copy(h, body); err != nil {
		return err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket:         aws.String(bucket),
		Key:            aws.String(object.Key),
		Body:           body,
		ContentLength:  aws.Int64(body.Size()),
		ContentType:    aws.String(object.ContentType),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(h.Sum(nil))),
		IfNoneMatch:    aws.String("*"),
		Metadata:       object.Metadata,
	})
	if statusOf(err) == http.StatusPreconditionFailed {
		return nil
	}
	return plain(err)
}

func statusOf(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// plain shortens the SDK's chain of wrappers to what an operator can use.
func plain(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		service := "S3"
		var op *smithy.OperationError
		for e := err; errors.As(e, &op); e = op.Err {
			service = op.Service() // the innermost: STS, where assuming a role failed
		}
		return fmt.Errorf("%s answered %d %s: %s", service, statusOf(err), api.ErrorCode(), api.ErrorMessage())
	}
	return err
}
