#!/usr/bin/env python3
"""Stores a folder with boto3, lists and reads it back, and deletes it again; exits 0 only if every byte came back.

usage: boto3_client.py ENDPOINT BUCKET FOLDER      (keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)
"""
import hashlib
import pathlib
import sys

import boto3
import botocore.config
import botocore.exceptions


def fail(message):
    sys.exit(f"boto3: {message}")


def main():
    endpoint, bucket, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 5})
    s3 = boto3.client("s3", endpoint_url=endpoint, config=config)
    s3.create_bucket(Bucket=bucket)
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for key, body in files.items():
        # Metadata is part of what is stored.
        answer = s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata={"sum": hashlib.sha256(body).hexdigest()},
                               ContentType="message/rfc822")
        if not answer["ETag"]:
            fail(f"no ETag for {key}")

    listed = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 50}):
        for entry in page.get("Contents", []):
            listed[entry["Key"]] = entry["Size"]
    if listed != {key: len(body) for key, body in files.items()}:
        fail(f"list shows {len(listed)} of {len(files)} objects, or other sizes")
    folders = {prefix["Prefix"] for prefix in
               s3.list_objects_v2(Bucket=bucket, Delimiter="/").get("CommonPrefixes", [])}
    if folders != {key.split("/")[0] + "/" for key in files if "/" in key}:
        fail(f"list with a delimiter shows {sorted(folders)}")

    for key, body in files.items():
        answer = s3.get_object(Bucket=bucket, Key=key)
        if answer["Body"].read() != body:
            fail(f"{key} came back changed")
        if answer["Metadata"].get("sum") != hashlib.sha256(body).hexdigest():
            fail(f"{key}: metadata came back changed")
        if answer["ContentType"] != "message/rfc822":
            fail(f"{key}: content type came back as {answer['ContentType']}")
        if len(body) > 10:
            part = s3.get_object(Bucket=bucket, Key=key, Range="bytes=3-9")
            if part["Body"].read() != body[3:10] or part["ResponseMetadata"]["HTTPStatusCode"] != 206:
                fail(f"{key}: a range came back changed")
    expect_refusal(s3.get_object, {"NoSuchKey", "404"}, Bucket=bucket, Key="no such key")
    first = next(iter(files))
    expect_refusal(s3.put_object, {"PreconditionFailed"}, Bucket=bucket, Key=first, Body=b"other", IfNoneMatch="*")
    if s3.get_object(Bucket=bucket, Key=first)["Body"].read() != files[first]:
        fail("a refused write changed the object")

    keys = list(files)
    for start in range(0, len(keys), 1000):
        chunk = [{"Key": key} for key in keys[start:start + 1000]]
        errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": chunk}).get("Errors", [])
        if errors:
            fail(f"delete: {errors[0]}")
    if s3.list_objects_v2(Bucket=bucket).get("KeyCount", 0) != 0:
        fail("objects are left after all were deleted")
    s3.delete_bucket(Bucket=bucket)


def expect_refusal(call, codes, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            fail(f"{call.__name__}: expected {codes}, got {error}")
        return
    fail(f"{call.__name__} of {arguments['Key']!r} was not refused")


if __name__ == "__main__":
    main()
