"""What every download needs: requests with patience, mirrors, and several blobs at once into the store."""
