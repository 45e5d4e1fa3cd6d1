package trino

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// metastoreInFolder keeps the definitions of tables in files.
func metastoreInFolder(_ context.Context, dir string, _ *Options) ([]string, error) {
	return []string{
		"hive.metastore.catalog.dir=local:///",
		"fs.native-local.enabled=true",
		"local.location=" + dir,
	}, os.MkdirAll(dir, 0o755)
}

// metastoreBucket is made where metastoreInBucket is used.
const metastoreBucket = "trino-metastore"

// metastoreInBucket keeps the definitions of tables in a bucket of their own, for
// a version that reads folders only by way of Hadoop, which cannot be had for it.
func metastoreInBucket(ctx context.Context, _ string, o *Options) ([]string, error) {
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(o.S3Endpoint),
		UsePathStyle: true,
		Region:       o.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, ""),
	})
	_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(metastoreBucket)})
	var owned *types.BucketAlreadyOwnedByYou
	if err != nil && !errors.As(err, &owned) {
		return nil, fmt.Errorf("a bucket for the metastore: %w", err)
	}
	return []string{"hive.metastore.catalog.dir=s3://" + metastoreBucket + "/"}, nil
}
