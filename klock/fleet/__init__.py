"""Many copies of one environment, in the pods of a cluster: what each holds, and whether it is what is locked.

    lockfile --expected--> manifest and digests --+
                                                  +--checking--> findings, by pod and path
    pods --cluster--> what each says of itself ---+

klock is not in the image, so the environment's own Python reads its files (`reading_script`).
"""
